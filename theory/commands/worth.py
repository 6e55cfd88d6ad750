"""``aria-sim worth``: what allocating effort over regions can gain, for a given spread or for that of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aria.cli import errors, options, tables
from theory.columns import ExplainedCommand

if TYPE_CHECKING:
    from theory.worth_estimate import Worth

QUANTILES = 2001
"""Number of equally likely regions that stand for a normal distribution of log discrepancy."""
COLUMNS = {
    "quantity": "spread: standard deviation of log discrepancy over the regions. exponent: the discrepancy of a region "
    "is proportional to its effort to this negative power. transfer: share of the effort that teaches all regions "
    "alike. gain: the most that any allocation can remove of the mean discrepancy that equal effort leaves, with the "
    "same effort, in %. proportional: what the rule 'effort in proportion to the discrepancy' removes of it. so far: "
    "what the run's own allocation removed of it, if the fitted curves hold.",
    "value": "The estimate.",
    "low": "Lower end of its 90 % interval.",
    "high": "Upper end.",
}


@click.command("worth", cls=ExplainedCommand, columns=COLUMNS)
@click.option("--spread", type=float, help="Standard deviation of the logarithm of the regions' discrepancies.")
@click.option("--exponent", type=float, help="Exponent of the learning curves.  [default: 0.5, or the log's]")
@click.option("--transfer", type=float,
              help="Share of the effort that teaches all regions alike, from 0 to below 1.  [default: 0]")  # fmt: skip
@click.option("--from-log", "log", metavar="RUN|FILE",
              help="Estimate spread and exponent from a run's folder or its discrepancies.jsonl.")  # fmt: skip
@options.as_json
def command(
    spread: float | None, exponent: float | None, transfer: float | None, log: str | None, as_json: bool
) -> None:
    """Print how much an allocation over regions can gain at most, on equal effort for equal shares of the pool.

    The regions' log discrepancies are taken as normal with standard deviation --spread, or are those of a log. From a
    log the gain is that without transfer, which is the largest; its interval includes every transfer unless --transfer
    is given. The shares of the regions are those of the partition beside the log, equal without one.
    """
    from theory.worth_estimate import NotEnough

    if (log is None) == (spread is None):
        raise errors.Refusal("give either --spread or --from-log")
    try:
        given = spread is not None
        rows, sentence, notes = _given(spread, exponent, transfer) if given else _read(log, exponent, transfer)
    except NotEnough as error:
        raise errors.Refusal(f"{log}: {error}") from None
    except ValueError as error:
        raise errors.Refusal(str(error)) from None
    if as_json:
        click.echo(tables.as_json({"worth": rows, "sentence": sentence, "notes": notes}))
        return
    click.echo(tables.table(rows))
    click.echo(sentence)
    for note in notes:
        click.echo(f"note: {note}")


Answer = tuple[list[dict[str, object]], str, list[str]]


def _given(spread: float | None, exponent: float | None, transfer: float | None) -> Answer:
    import numpy as np

    from theory import assumptions, bounds
    from theory.learning_curves import log_normal

    a, tau = 0.5 if exponent is None else exponent, transfer or 0.0
    sigma = float(assumptions.non_negative("spread", spread))
    mass = np.full(QUANTILES, 1 / QUANTILES)
    level = log_normal(QUANTILES, sigma)
    if tau:
        gain = float(bounds.worth(mass, level, a, transfer=tau))
        settled = bounds.settled_effort(mass, level, a, transfer=tau)
        proportional = 1 - float(bounds.effort_left(mass, level, settled, a, transfer=tau))
    else:  # the rule then settles at the best effort
        gain = proportional = float(bounds.worth_of_spread(sigma, a))
    rows = [
        {"quantity": name, "value": value}
        for name, value in (
            ("spread", sigma), ("exponent", a), ("transfer", tau), ("gain", 100 * gain),
            ("proportional", 100 * proportional),
        )
    ]  # fmt: skip
    return rows, f"regions with this spread can gain at most {100 * gain:.2g} %", []


def _read(log: str | None, exponent: float | None, transfer: float | None) -> Answer:
    from pathlib import Path

    from theory import run_worth

    worth, notes = run_worth.of_run(Path(str(log)), exponent=exponent, transfer=transfer)
    return _rows(worth), worth.sentence, notes


def _rows(worth: Worth) -> list[dict[str, object]]:
    percent = {"gain", "so_far"}
    return [
        {
            "quantity": name.replace("_", " "),
            **{end: float(x) * (100 if name in percent else 1) for end, x in value._asdict().items()},
        }
        for name, value in worth.ranges.items()
    ]
