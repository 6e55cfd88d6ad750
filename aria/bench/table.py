"""The table of a comparison: every arm against the baseline, group by group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean
from typing import Any

from aria.bench import statistics
from aria.bench.arms import LOOKAHEAD
from aria.bench.records import Record
from aria.bench.words import of_group
from aria.checks import InvalidSetting
from aria.significance import holm

BASELINE, ORACLE = "rc", "oracle"
REFERENCES = (ORACLE, LOOKAHEAD)
"""Arms whose gain is the unit of the others' gains."""
SPREAD = "spread.regions"
"""How much regions differ in difficulty; tasks in memory have it."""
OWN = "own.images"
"""Error of noise predictions on the training images, unweighted over noise levels; tasks in memory have it."""
LEVEL = 0.01
"""A change has a star where its adjusted p value is below."""
ERRORS = ("gap", "x0", "own")
"""Metrics where less is better, shown as changes; others are shown as they are."""


def groups_of(records: Sequence[Record]) -> list[str]:
    """The groups whose generation gap was measured, in order."""
    return list(dict.fromkeys(record["group"] for record in records if record["metric"] == "gap"))


def rows(records: Sequence[Record], groups: Sequence[str], baseline: str = BASELINE) -> list[dict[str, Any]]:
    """One row per arm: changes of the gap by group and of the own-image error, steps to the baseline's final gap."""
    last = max(record["step"] for record in records)
    final = {(r["arm"], r["metric"], r["group"], r["seed"]): r["value"] for r in records if r["step"] == last}
    arms = list(dict.fromkeys(r["arm"] for r in records))
    seeds = sorted({r["seed"] for r in records})
    table = []
    for arm in arms:
        row: dict[str, Any] = {"arm": arm, "seeds": len(seeds), "baseline": baseline}
        for metric, group in dict.fromkeys((metric, group) for _, metric, group, _ in final):
            if lacking := [seed for seed in seeds if (arm, metric, group, seed) not in final]:
                message = f"the arm {arm} has no {metric} of {group} at the end of seed {lacking[0]}"
                raise InvalidSetting("records", "missing", f"{message}, so it cannot be compared")
            values = [final[arm, metric, group, seed] for seed in seeds]
            row[f"{metric}.{group}"] = {"value": mean(values)}
            if metric in ERRORS:
                found = statistics.change(values, [final[baseline, metric, group, seed] for seed in seeds])
                row[f"{metric}.{group}"] |= {name: _known(value) for name, value in vars(found).items()}
        shown = [group for group in ("uniform", "unseen") if group in groups]
        row["steps"] = {group: _steps(records, arm, group, baseline, seeds, last) for group in shown}
        table.append(row)
    _adjust(table)
    for reference in REFERENCES:
        _add_shares(table, f"of_{reference}", reference)
    return table


def _steps(
    records: Sequence[Record], arm: str, group: str, baseline: str, seeds: Sequence[int], last: int
) -> float | None:
    """Mean share of the steps until the arm reaches the baseline's final gap; None if that never happens for a seed."""
    shares = []
    for seed in seeds:
        gaps = [r for r in records if r["metric"] == "gap" and r["group"] == group and r["seed"] == seed]
        level = next(r["value"] for r in gaps if r["arm"] == baseline and r["step"] == last)
        curve = sorted((r["step"], r["value"]) for r in gaps if r["arm"] == arm)
        shares.append(statistics.reach([s for s, _ in curve], [v for _, v in curve], level) / last)
    return None if any(math.isnan(share) for share in shares) else mean(shares)


def _adjust(table: list[dict[str, Any]]) -> None:
    """Adjust p values over all arms and groups of the table together; the baseline has none, lookahead is no arm."""
    for row in table:
        if row["arm"] == row["baseline"]:
            for name in _gaps(row):
                row[name]["p"] = None
    arms = [row for row in table if row["arm"] != LOOKAHEAD]
    p = {(row["arm"], name): row[name]["p"] for row in arms for name in _gaps(row) if row[name]["p"] is not None}
    adjusted = holm(p)
    for row in table:
        for name in _gaps(row):
            row[name]["p_adjusted"] = adjusted.get((row["arm"], name))


def _gaps(row: dict[str, Any]) -> list[str]:
    return [name for name in row if name.startswith("gap.")]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _add_shares(table: list[dict[str, Any]], name: str, reference: str) -> None:
    """The share of the reference's gain (uniform over conditions) that each arm reaches; None where the reference's
    own gain is not significant (p ≥ .05), since that share would be a ratio of two noises."""
    found: dict[str, Any] = next((row["gap.uniform"] for row in table if row["arm"] == reference), {"p": None})
    gains = found["p"] is not None and found["p"] < 0.05 and found["mean"] < 0
    for row in table:
        row[name] = 0.0 + row["gap.uniform"]["mean"] / found["mean"] if gains else None  # no -0


def who_pays(row: dict[str, Any], groups: Sequence[str]) -> list[str] | None:
    """The groups whose gap an arm increases by more than two standard errors; None with one seed (no error)."""
    cells = {group: row[f"gap.{group}"] for group in groups}
    if any(cell["error"] is None for cell in cells.values()):
        return None
    return [group for group, cell in cells.items() if cell["mean"] > 2 * cell["error"]]


def text(table: Sequence[dict[str, Any]], groups: Sequence[str]) -> str:
    """The table for a terminal: changes relative to the baseline (%) ± standard error, * where adjusted p < .01."""
    columns = {f"gap.{group}": group for group in groups}
    if OWN in table[0]:
        columns[OWN] = "own ε error"
    width = max(len(row["arm"]) for row in table) + 2
    wide = max(15, *(len(title) + 2 for title in columns.values()))
    shares = {f"of_{reference}": f"of {reference}" for reference in shown_references(table)}
    titles = "".join(f"{title:>{len(title) + 2}}" for title in shares.values())
    lines = ["arm".ljust(width) + "".join(f"{title:>{wide}}" for title in columns.values()) + f"{'steps':>8}{titles}"]
    for row in table:
        cells = "".join(f"{_cell(row[name], row['arm'] == row['baseline']):>{wide}}" for name in columns)
        parts = "".join(f"{_share(row[name]):>{len(title) + 2}}" for name, title in shares.items())
        lines.append(row["arm"].ljust(width) + cells + f"{_share(row['steps'].get('uniform')):>8}{parts}")
    return "\n".join(lines)


def shown_references(table: Sequence[dict[str, Any]]) -> list[str]:
    """The references of whose gain at least one arm has a share; a column of nothing but dashes is left out."""
    return [reference for reference in REFERENCES if any(row[f"of_{reference}"] is not None for row in table)]


def hidden_references(table: Sequence[dict[str, Any]]) -> list[str]:
    """The references that were run but whose own gain is not significant."""
    run = {row["arm"] for row in table} & set(REFERENCES)
    return [reference for reference in REFERENCES if reference in run - set(shown_references(table))]


def caption(result: dict[str, Any]) -> str:
    """What the rows, columns and numbers of the table are, a line each."""
    baseline, table = result["baseline"], result["table"]
    lines = [
        f"change of the generation gap relative to {baseline} (%), lower is better; {len(result['seeds'])} seeds, "
        f"mean ± standard error; * adjusted p < {LEVEL}",
        "generation gap: mean squared difference between the student's and the teacher's images from the same noise",
        "rows: arms, that is ways to allocate; everything else is the same",
        f"columns: groups of conditions: {', '.join(f'{name} ({of_group(name)})' for name in result['groups'])}",
        f"steps: share of the run until an arm reaches {baseline}'s final gap, – if never",
    ]
    if SPREAD in table[0]:
        own = next(row for row in table if row["arm"] == baseline)
        what = f"{own[SPREAD]['value']:.2f}, the standard deviation of the logarithm of {baseline}'s gap"
        lines.insert(-1, f"spread of difficulty over regions: {what}; below about .3 there is little to allocate")
    if OWN in table[0]:
        lines.insert(-1, "own ε error: noise prediction error on the training images; misleading, see the page")
    lines += [f"of {reference}: share of its gain over {baseline}" for reference in shown_references(table)]
    lines += [f"of {reference}: not shown, its gain is not significant" for reference in hidden_references(table)]
    return "\n".join(lines)


def signed(change: float) -> str:
    """A change with one decimal; what rounds to zero has no sign.

    >>> signed(3), signed(-0.04)
    ('+3.0', '0.0')
    """
    return f"{change:+.1f}" if round(change, 1) else "0.0"


def _cell(found: dict[str, Any], baseline: bool) -> str:
    if baseline:
        return "0 "
    error, p = found["error"], found.get("p_adjusted")
    star = "*" if p is not None and p < LEVEL else " "
    return f"{signed(found['mean'])}{'' if error is None else f'±{error:.1f}'}{star}"


def _share(part: float | None) -> str:
    return "–" if part is None else f"{part:z.2f}"
