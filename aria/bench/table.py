"""The table of a comparison: every arm against random conditioning, group by group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean
from typing import Any

from aria.bench import statistics
from aria.bench.arms import LOOKAHEAD
from aria.bench.records import Record
from aria.bench.words import of_group

BASELINE, ORACLE = "rc", "oracle"
MARKS = (ORACLE, LOOKAHEAD)
"""What arms are measured by, as a share of its gain."""
OWN = "own.images"
"""The flat error of noise predictions on the images at hand, in tasks in memory."""
LEVEL = 0.01
"""A change has a star where its adjusted p is below."""
ERRORS = ("gap", "x0", "own")
"""Metrics of which less is better and changes are told; of others only what they are."""


def groups_of(records: Sequence[Record]) -> list[str]:
    """The groups whose generation gap was measured, in order."""
    return list(dict.fromkeys(record["group"] for record in records if record["metric"] == "gap"))


def rows(records: Sequence[Record], groups: Sequence[str], baseline: str = BASELINE) -> list[dict[str, Any]]:
    """One row an arm: changes of the generation gap by group, of the own-image error, steps to the baseline's end."""
    last = max(record["step"] for record in records)
    final = {(r["arm"], r["metric"], r["group"], r["seed"]): r["value"] for r in records if r["step"] == last}
    arms = list(dict.fromkeys(r["arm"] for r in records))
    seeds = sorted({r["seed"] for r in records})
    told = []
    for arm in arms:
        row: dict[str, Any] = {"arm": arm, "seeds": len(seeds), "baseline": baseline}
        for metric, group in dict.fromkeys((metric, group) for _, metric, group, _ in final):
            ours = [final[arm, metric, group, seed] for seed in seeds]
            row[f"{metric}.{group}"] = {"value": mean(ours)}
            if metric in ERRORS:
                found = statistics.change(ours, [final[baseline, metric, group, seed] for seed in seeds])
                row[f"{metric}.{group}"] |= {name: _known(value) for name, value in vars(found).items()}
        shown = [group for group in ("uniform", "unseen") if group in groups]
        row["steps"] = {group: _steps(records, arm, group, baseline, seeds, last) for group in shown}
        told.append(row)
    _adjust(told)
    for mark in MARKS:
        _beside(told, f"of_{mark}", mark)
    return told


def _steps(
    records: Sequence[Record], arm: str, group: str, baseline: str, seeds: Sequence[int], last: int
) -> float | None:
    """Mean share of the steps after which the arm is where the baseline ends; None if a seed never gets there."""
    shares = []
    for seed in seeds:
        mine = [r for r in records if r["metric"] == "gap" and r["group"] == group and r["seed"] == seed]
        level = next(r["value"] for r in mine if r["arm"] == baseline and r["step"] == last)
        curve = sorted((r["step"], r["value"]) for r in mine if r["arm"] == arm)
        shares.append(statistics.reach([s for s, _ in curve], [v for _, v in curve], level) / last)
    return None if any(math.isnan(share) for share in shares) else mean(shares)


def _adjust(told: list[dict[str, Any]]) -> None:
    """p values adjusted for all arms and groups of the table together; the baseline has none, lookahead is no arm."""
    for row in told:
        if row["arm"] == row["baseline"]:
            for name in _gaps(row):
                row[name]["p"] = None
    arms = [row for row in told if row["arm"] != LOOKAHEAD]
    p = {(row["arm"], name): row[name]["p"] for row in arms for name in _gaps(row) if row[name]["p"] is not None}
    adjusted = statistics.holm(p)
    for row in told:
        for name in _gaps(row):
            row[name]["p_adjusted"] = adjusted.get((row["arm"], name))


def _gaps(row: dict[str, Any]) -> list[str]:
    return [name for name in row if name.startswith("gap.")]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _beside(told: list[dict[str, Any]], name: str, mark: str) -> None:
    """The share of the gain of the arm ``mark`` that each arm reaches, uniformly over conditions; None where that gain
    itself cannot be told from chance (p ≥ .05), so that no share is a ratio of two noises."""
    found: dict[str, Any] = next((row["gap.uniform"] for row in told if row["arm"] == mark), {"p": None})
    gains = found["p"] is not None and found["p"] < 0.05 and found["mean"] < 0
    for row in told:
        row[name] = 0.0 + row["gap.uniform"]["mean"] / found["mean"] if gains else None  # no -0


def who_pays(row: dict[str, Any], groups: Sequence[str]) -> list[str] | None:
    """The groups whose gap an arm makes larger by more than two standard errors; None where one seed has no error."""
    cells = {group: row[f"gap.{group}"] for group in groups}
    if any(cell["error"] is None for cell in cells.values()):
        return None
    return [group for group, cell in cells.items() if cell["mean"] > 2 * cell["error"]]


def text(told: Sequence[dict[str, Any]], groups: Sequence[str]) -> str:
    """The table as people read it: changes in per cent of the baseline, ± standard error, * where adjusted p < .01."""
    columns = {f"gap.{group}": group for group in groups}
    if OWN in told[0]:
        columns[OWN] = "own ε error"
    width = max(len(row["arm"]) for row in told) + 2
    wide = max(15, *(len(title) + 2 for title in columns.values()))
    marks = {f"of_{mark}": f"of {mark}" for mark in marks_of(told)}
    titles = "".join(f"{title:>{len(title) + 2}}" for title in marks.values())
    lines = ["arm".ljust(width) + "".join(f"{title:>{wide}}" for title in columns.values()) + f"{'steps':>8}{titles}"]
    for row in told:
        cells = "".join(f"{_cell(row[name], row['arm'] == row['baseline']):>{wide}}" for name in columns)
        shares = "".join(f"{_share(row[name]):>{len(title) + 2}}" for name, title in marks.items())
        lines.append(row["arm"].ljust(width) + cells + f"{_share(row['steps'].get('uniform')):>8}{shares}")
    return "\n".join(lines)


def marks_of(told: Sequence[dict[str, Any]]) -> list[str]:
    """The marks of whose gain at least one arm has a share; a column of dashes says nothing."""
    return [mark for mark in MARKS if any(row[f"of_{mark}"] is not None for row in told)]


def caption(result: dict[str, Any]) -> str:
    """What the rows, columns and numbers of the table are, a line each."""
    baseline, told = result["baseline"], result["table"]
    lines = [
        f"change of the generation gap in % of {baseline}'s, less is better; seeds: {len(result['seeds'])}, mean ± "
        f"standard error; * adjusted p < {LEVEL}",
        "generation gap: mean squared difference of what student and teacher make of the same noise",
        "arms, the rows: ways to allocate, all else alike; the page says what each does",
        f"groups of conditions, the columns: {', '.join(f'{name} ({of_group(name)})' for name in result['groups'])}",
        f"steps: share of the run until {baseline}'s end, – if never",
    ]
    if OWN in told[0]:
        lines.insert(-1, "own ε error: of noise predictions on the images at hand; it misleads, see the page")
    for mark in (mark for mark in MARKS if any(row["arm"] == mark for row in told)):
        gain = f"share of its gain over {baseline}" if mark in marks_of(told) else "not shown, its gain may be chance"
        lines.append(f"of {mark}: {gain}")
    return "\n".join(lines)


def signed(change: float) -> str:
    """A change in one digit behind the point; what rounds to nothing has no sign.

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
