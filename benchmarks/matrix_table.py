"""The tables of docs/benchmark.md about the matrix, in Markdown, from the rows that are kept in the repository.

    python -m benchmarks.matrix_table

``aria bench --matrix emoji-core --out FOLDER`` continues a copy of their folder.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aria import integrity
from aria.bench import summary, table
from aria.bench.matrix import STATIC
from aria.bench.static_search import TARGET

FOLDER = Path(__file__).parent / "results" / "matrix"
ARMS = ("aria-static", "aria", STATIC)


def rows(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """The finished rows by label."""
    found = [integrity.read(path) for path in sorted((folder / "rows").glob("*.json"))]
    return {row["label"]: row for row in sorted(found, key=lambda row: str(row["label"]))}


def by_row(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What every arm changes in every row, beside rc and beside the best static mix, and what regions can gain."""
    over = summary.summary(found)
    head = ["row", *(f"`{arm}`" for arm in ARMS), "`aria` vs `static`", "who pays beside it", "steps", "tracking"]
    head += ["regions can gain", "`static` is"]
    lines = [line(head), line(["---"] * len(head))]
    for label, row in found.items():
        beside = over["rc"]["rows"][label]
        tracking = table.rows(row["records"], table.groups_of(row["records"]), "aria-static")
        tracked = next(line for line in tracking if line["arm"] == "aria")[f"gap.{TARGET}"]
        cells = [_change(beside[arm]["changes"][TARGET]) for arm in ARMS]
        mix = over[STATIC]["rows"][label]["aria"]
        steps = "–" if beside["aria"]["steps"] is None else f"{beside['aria']['steps']:.2f}"
        cells += [_change(mix["changes"][TARGET]), ", ".join(mix["pays"]) or "nobody", steps, _change(tracked)]
        cells += [summary.worth_text(row["worth"]), row["static"]["name"]]
        lines.append(line([label, *cells]))
    return "\n".join(lines)


def by_group(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Over all rows and for every group of captions: the median change beside rc, and rows better, equal and worse."""
    over = summary.summary(found)
    head = ["group", *(f"`{arm}`" for arm in ARMS), "`aria` vs `static`"]
    lines = [line(head), line(["---"] * len(head))]
    for group, arms in over["rc"]["groups"].items():
        cells = [arms[arm] for arm in ARMS] + [over[STATIC]["groups"][group]["aria"]]
        lines.append(line([group, *(_over(cell) for cell in cells)]))
    return "\n".join(lines)


def line(cells: Sequence[str]) -> str:
    """A row of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def _change(found: Mapping[str, Any]) -> str:
    sure = "" if found["p"] is None or found["p"] >= summary.LEVEL else "\\*"
    return f"{table.signed(found['mean'])}±{found['error']:.1f}{sure}".replace("-", "−")


def _over(cell: Mapping[str, Any]) -> str:
    counts = f"{cell['better']}/{cell['equal']}/{cell['worse']}"
    return f"{table.signed(cell['median'])} ({counts})".replace("-", "−")


def main() -> int:
    """Print both tables."""
    found = rows()
    print(by_row(found), by_group(found), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
