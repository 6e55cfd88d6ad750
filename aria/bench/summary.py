"""What a matrix says as a whole: each arm beside a baseline over all rows, better, equal or worse, and who pays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from aria.bench import table
from aria.bench.matrix import STATIC
from aria.bench.static_search import TARGET
from aria.significance import holm

LEVEL = 0.05
"""A change counts as better or worse where its adjusted p value is below."""
BASELINES = ("rc", STATIC)


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """For each baseline the changes of all other arms: in every row and group, and over the rows of every group."""
    return {baseline: _against(rows, baseline) for baseline in BASELINES}


def _against(rows: Mapping[str, Mapping[str, Any]], baseline: str) -> dict[str, Any]:
    tables = {
        label: {
            row["arm"]: row for row in table.rows(found["records"], table.groups_of(found["records"]), baseline)
        }
        for label, found in rows.items()
    }
    arms = [arm for arm in dict.fromkeys(arm for found in tables.values() for arm in found) if arm != baseline]
    groups = list(dict.fromkeys(group for found in rows.values() for group in table.groups_of(found["records"])))
    return {
        "rows": {
            label: {arm: _row(found[arm], groups) for arm in arms if arm in found} for label, found in tables.items()
        },
        "groups": {group: _group(tables, arms, group) for group in groups},
    }


def _row(row: Mapping[str, Any], groups: Sequence[str]) -> dict[str, Any]:
    own = [group for group in groups if f"gap.{group}" in row]
    return {
        "changes": {group: {name: row[f"gap.{group}"][name] for name in ("mean", "error", "p")} for group in own},
        "pays": table.who_pays(dict(row), own),
        "steps": row["steps"].get(TARGET),
    }


def _group(tables: Mapping[str, Mapping[str, Any]], arms: Sequence[str], group: str) -> dict[str, Any]:
    """By arm: the median change, how many rows are better, equal and worse (paired t tests, adjusted by Holm's method
    over all rows and arms), and the p value of Wilcoxon's signed-rank test over the rows."""
    cells = {
        (label, arm): found[arm][f"gap.{group}"]
        for label, found in tables.items()
        for arm in arms
        if arm in found and f"gap.{group}" in found[arm]
    }
    # Arms that are one under two names have one test, and an arm beside itself has none.
    tests = {key: (key[0], cell["mean"], cell["error"]) for key, cell in cells.items()}
    adjusted = holm({tests[key]: _p(cell) for key, cell in cells.items() if cell["mean"] or cell["error"]})
    result = {}
    for arm in arms:
        means = [cell["mean"] for (_, name), cell in cells.items() if name == arm]
        if not means:
            continue
        own = [(cell["mean"], adjusted.get(tests[key], 1.0)) for key, cell in cells.items() if key[1] == arm]
        verdicts = [_verdict(*one) for one in own]
        spread = {"median": median(means), "lowest": min(means), "highest": max(means)}
        counts = {name: verdicts.count(name) for name in ("better", "equal", "worse")}
        result[arm] = {**spread, **counts, "p": over_rows(means)}
    return result


def over_rows(changes: Sequence[float]) -> float | None:
    """Two-sided p value of Wilcoxon's signed-rank test that changes are symmetric about 0; None for fewer than six
    rows, of which it could not tell.

    >>> over_rows([-1.0] * 3), round(over_rows([-1.0, -2.0, -3.0, -4.0, -5.0, -6.0]), 4)
    (None, 0.0312)
    """
    from scipy.stats import wilcoxon

    if len(changes) < 6 or not any(changes):
        return None
    return float(wilcoxon(changes).pvalue)


def text(found: Mapping[str, Any]) -> str:
    """The summary for a terminal."""
    parts = []
    for baseline, against in found.items():
        arms = list(dict.fromkeys(arm for row in against["rows"].values() for arm in row))
        wide = max(len(label) for label in (*against["rows"], *against["groups"])) + 2
        lines = [f"change of the generation gap relative to {baseline} (%), {TARGET}"]
        lines.append(" " * wide + "".join(f"{arm:>18}" for arm in arms))
        for label, row in against["rows"].items():
            lines.append(label.ljust(wide) + "".join(f"{_cell(row.get(arm)):>18}" for arm in arms))
        lines += ["", f"over {len(against['rows'])} rows: median change, and rows better / not shown to differ / worse"]
        lines.append(" " * wide + "".join(f"{arm:>18}" for arm in arms))
        for group, over in against["groups"].items():
            lines.append(group.ljust(wide) + "".join(f"{_over(over.get(arm)):>18}" for arm in arms))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def worth_text(worth: Mapping[str, float] | None) -> str:
    """What regions can gain, in %, with its interval.

    >>> worth_text({"value": 2.4, "low": 1.2, "high": 3.1}), worth_text(None)
    ('2.4 [1.2, 3.1]', '–')
    """
    return "–" if worth is None else f"{worth['value']:.1f} [{worth['low']:.1f}, {worth['high']:.1f}]"


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "–"
    change = found["changes"][TARGET]
    error = "" if change["error"] is None else f"±{change['error']:.1f}"
    return f"{table.signed(change['mean'])}{error}"


def _over(over: Mapping[str, Any] | None) -> str:
    return "–" if over is None else f"{table.signed(over['median'])}  {over['better']}/{over['equal']}/{over['worse']}"


def _p(cell: Mapping[str, Any]) -> float:
    return math.nan if cell["p"] is None else float(cell["p"])


def _verdict(mean: float, p: float) -> str:
    if math.isnan(p) or p >= LEVEL:
        return "equal"
    return "better" if mean < 0 else "worse"
