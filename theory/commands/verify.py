"""``aria-sim verify``: every claim as one line of a table, with the mutants that must make it fail."""

from __future__ import annotations

import functools
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click

from aria.cli import errors, options
from aria.progress import bar
from theory.columns import ExplainedCommand

if TYPE_CHECKING:
    from aria.interfaces import Tracker

FULL = 6.0
"""Replicas of a full run in units of those of a quick run."""
MOST_AT_ONCE = 8
"""Most claims judged in parallel, given as many cores: each uses threads of its own for larger runs."""


COLUMNS = {
    "statement": "Name of the statement, such as T3-A; see docs/theory.md.",
    "regime": "The simulated regime.",
    "tracker or allocator": "What was simulated; a foil is a tracker that is not shipped and serves as a comparison.",
    "claim": "Measured quantity and its reference: = for an equality, ≤ for a bound, > for a value that must be "
    "exceeded.",
    "ratio": "Measured value divided by the reference, ± the half-width of a confidence interval that misses with "
    "probability 10⁻⁶ (divided between the checks of a claim); in parentheses the value itself if the reference is 0.",
    "× limit": "Certified error divided by the smallest error that any linear tracker can certify; with --tracker the "
    "measured error instead, which is below 1 if the regime is easier than its worst case.",
    "verdict": "'holds', or 'FALLS' if a check of the claim failed.",
    "killed": "Mutants detected, of those that can be detected. A mutant is a wrong formula or a tracker with a wrong "
    "parameter; it must make the claim fail.",
    "underpowered": "Number of mutants whose effect is too small to be detected with this sample size; try --full.",
    "mse, steps 301-600": "With --tracker: measured mean squared error with its confidence interval.",
    "bias": "With --tracker: mean of estimate minus truth.",
}


@click.command("verify", cls=ExplainedCommand, columns=COLUMNS)
@click.option("--quick/--full", "quick", default=True, help="Most claims, or all claims with more replicas.")
@options.as_json
@click.option("--tracker", "spec", callback=options.part("tracker"), metavar="SPEC",
              help="Instead, measure the errors of this tracker in every regime.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed.")
def command(quick: bool, as_json: bool, spec: str | None, seed: int) -> None:
    """Check every claim about the shipped trackers and allocators by simulation.

    Exit code: 0 if every claim holds and every mutant that can be detected is killed, 1 if not, 2 for a mistake in the
    command.
    """
    shown, sound = _trials(_tracker(spec), quick, seed) if spec is not None else measure_claims(quick, seed)
    click.echo(json.dumps(shown, ensure_ascii=False, indent=1, allow_nan=False) if as_json else _text(shown))
    if not sound:
        click.get_current_context().exit(1)


# ------------------------------------------------------------------------------------------------------- the claims


def measure_claims(quick: bool, seed: int) -> tuple[dict[str, Any], bool]:
    from theory import claims
    from theory.claims.base import ALARM

    chosen = [claim for claim in claims.CLAIMS if claim.quick or not quick]
    began, verdicts = time.perf_counter(), []
    judge = functools.partial(claims.judge, seed=seed, scale=1.0 if quick else FULL)
    with (
        bar("claims") as progress,
        ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_AT_ONCE)) as pool,
    ):
        progress(0, len(chosen))
        try:
            for verdict in pool.map(judge, chosen):
                verdicts.append(verdict)
                progress(len(verdicts), len(chosen))
        finally:
            pool.shutdown(cancel_futures=True)
    rows = [verdict.row() for verdict in verdicts]
    count = {fate: sum(len(verdict.names(fate)) for verdict in verdicts) for fate in ("killed", "survived")}
    unpowered = sum(len(verdict.names("underpowered")) for verdict in verdicts)
    summary = {
        "claims": len(rows),
        "fallen": sum(bool(verdict.fallen) for verdict in verdicts),
        **count,
        "underpowered": unpowered,
        "false_alarm": ALARM * len(rows),
        "seed": seed,
        "seconds": time.perf_counter() - began,
    }
    return {"kind": "claims", "claims": rows, "summary": summary}, all(verdict.sound for verdict in verdicts)


def _claim_line(row: dict[str, Any]) -> tuple[str, ...]:
    killed, survived = len(row["killed"]), len(row["survived"])
    sign = {"equal": "=", "at most": "≤", "above": ">"}[row["sense"]]
    return (
        row["statement"],
        row["regime"],
        short(row["tracker"]),
        f"{row['quantity']} {sign} {row['reference']:.4g}",
        f"{row['ratio']:.4f} ± {row['half_width']:.4f}" if row["reference"] else f"({row['ratio']:.2g})",
        f"{row['times_limit']:.3f}" if row["times_limit"] is not None else "",
        "holds" if row["holds"] else "FALLS",
        f"{killed}/{killed + survived}",
        str(len(row["underpowered"]) or ""),
    )


def short(spec: str) -> str:
    shorter = {", importance=False": "", ", sigma=None": "", "theory.claims.foils:": "foil "}
    short = functools.reduce(lambda text, part: text.replace(part, shorter[part]), shorter, spec)
    return re.sub(r"\d+\.\d{5,}", lambda number: f"{float(number[0]):.4g}", short)


# ----------------------------------------------------------------------------------------------- a tracker of your own


def _tracker(spec: str) -> Tracker:
    from aria import registry

    tracker = registry.tracker(spec)
    if tracker.statistic not in ("mean", "constant"):
        raise errors.Refusal(f"tracker must estimate the mean, got one of the {tracker.statistic}: {spec}")
    return tracker


def _trials(tracker: Tracker, quick: bool, seed: int) -> tuple[dict[str, Any], bool]:
    """Measured errors of a tracker in every regime; nothing is certified."""
    import math

    from aria import registry
    from theory.claims.base import ALARM
    from theory.limits import asynchronous_linear_limit
    from theory.regimes import NAMED
    from theory.simulate import simulate
    from theory.verdict import mean_interval

    steps, burn, replicas = 600, 300, 500 if quick else 5000
    rows: list[dict[str, Any]] = []
    with bar("regimes") as progress:
        for i, (name, regime) in enumerate(NAMED.items()):
            progress(i, len(NAMED))
            try:
                found = simulate(
                    tracker, regime, steps=steps, burn=burn, replicas=replicas, record=("sample", "sums"), seed=seed
                )
            except Exception as error:  # a user's own code
                raise errors.Refusal(f"{registry.spec(tracker)} failed in regime {name}: {_line(error)}") from None
            band = mean_interval(found["sum e²"].mean(-1) / (steps - burn), ALARM)
            if not math.isfinite(band.value):
                raise errors.Refusal(f"{registry.spec(tracker)} estimated a value that is not finite in regime {name}")
            drift = regime.bound
            known = 0 < drift < math.inf and regime.least > 0
            limit = float(asynchronous_linear_limit(regime.sigma, drift, regime.least)) if known else None
            rows.append(
                {
                    "regime": name,
                    "mse": band.value,
                    "half_width": band.half,
                    "bias": float(found["sum e"].mean()) / (steps - burn),
                    "drift": drift if math.isfinite(drift) else None,
                    "sigma": regime.sigma,
                    "visit_rate": regime.least,
                    "times_limit": band.value / limit if limit else None,
                }
            )
        progress(len(NAMED), len(NAMED))
    return {"kind": "tracker", "tracker": registry.spec(tracker), "regimes": rows, "seed": seed}, True


def _line(error: Exception) -> str:
    text = errors.one_line(str(error)) or "no message"
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def _trial_line(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["regime"],
        f"{row['mse']:.4g} ± {row['half_width']:.2g}",
        f"{row['bias']:+.3g}",
        f"{row['times_limit']:.3f}" if row["times_limit"] is not None else "",
    )


# ------------------------------------------------------------------------------------------------------------- tables


def _text(shown: dict[str, Any]) -> str:
    if shown["kind"] == "tracker":
        head = ("regime", "mse, steps 301-600", "bias", "× limit")
        table = _table(head, [_trial_line(row) for row in shown["regimes"]])
        note = (
            "Measured, not certified. × limit: mse divided by the smallest worst-case mse of linear trackers for the"
            "\ndrift, noise and smallest visit rate of the regime; below 1 if the regime is easier than its worst case."
        )
        return f"{short(shown['tracker'])}\n\n{table}\n\n{note}"
    subject, result = ("statement", "regime", "tracker or allocator"), ("verdict", "killed", "underpowered")
    columns = (*subject, "claim", "ratio", "× limit", *result)
    lines = [_table(columns, [_claim_line(row) for row in shown["claims"]]), ""]
    for row in shown["claims"]:
        where = f"{row['statement']}, {row['regime']}, {short(row['tracker'])}"
        lines += [f"FALLS: {where}: {check}" for check in row["fallen"]]
        lines += [f"SURVIVED: {where}: {mutant}" for mutant in row["survived"]]
        lines += [f"underpowered: {where}: {mutant}" for mutant in row["underpowered"]]
    end = shown["summary"]
    lines.append(
        f"{end['claims']} claims, {end['fallen']} fallen; mutants: {end['killed']} killed, {end['survived']} survived, "
        f"{end['underpowered']} underpowered; a false alarm anywhere has probability at most {end['false_alarm']:.1g}; "
        f"{end['seconds']:.1f} s"
    )
    return "\n".join(lines)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [head, tuple("-" * width for width in widths), *rows]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
