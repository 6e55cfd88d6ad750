"""``aria-sim verify``: every claim as one line of a table, and what became of the mutants that must make it fall."""

from __future__ import annotations

import functools
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click

from aria.cli import errors
from aria.progress import bar

if TYPE_CHECKING:
    from aria.interfaces import Tracker

FULL = 6.0
"""Replicas of a full run in units of a quick one."""
MOST_AT_ONCE = 8
"""Claims judged at once, where there are as many cores: each has threads of its own for its larger runs."""


@click.command("verify")
@click.option("--quick/--full", "quick", default=True, help="Some claims in about a minute, or all with more replicas.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@click.option(
    "--tracker", "spec", metavar="SPEC", help="Put this tracker through the regimes instead; certifies nothing."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The result is a function of it.")
def command(quick: bool, as_json: bool, spec: str | None, seed: int) -> None:
    """Check every claim about the shipped trackers and allocators.

    ratio is what was measured over the reference, with the half-width of an interval that misses with probability
    10⁻⁶ (shared by the checks of a claim); × limit is what is certified over the best any linear tracker could
    certify. A mutant is a wrong formula, or a tracker with a wrong parameter: it must make the claim fall, unless the
    sample could not tell the two apart (underpowered). A foil is a tracker nobody ships, there to make a point.

    Exits with 0 if every claim holds and every mutant that could be told is killed, 1 if not, 2 for bad usage.
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


# ----------------------------------------------------------------------------------------------- a tracker of one's own


def _tracker(spec: str) -> Tracker:
    from aria import registry

    tracker = registry.tracker(spec)
    if tracker.statistic not in ("mean", "constant"):
        raise errors.Refusal(f"tracker must estimate the mean, got one of the {tracker.statistic}: {spec}")
    return tracker


def _trials(tracker: Tracker, quick: bool, seed: int) -> tuple[dict[str, Any], bool]:
    """What a tracker achieves in every regime, measured; nothing here is certified."""
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
                raise errors.Refusal(f"{registry.spec(tracker)} gave an estimate that is not finite in regime {name}")
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
            "Measured, not certified. × limit: over the least worst-case mse of linear trackers for the regime's drift,"
            "\nnoise and least visit rate; below 1 where the regime is kinder than its worst case."
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
