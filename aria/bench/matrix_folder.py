"""A matrix in a folder: run row by row; what is done is kept, can be continued, and is shared by several commands.

Each finished row is a file in ``rows``; the result and its page are made of all of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aria import files, integrity, registry
from aria.bench import matrix_page, records, summary
from aria.bench.matrix import Matrix, run_row
from aria.checks import InvalidSetting
from aria.progress import Bar

PLAN, RESULT, PAGE, ROWS, CELLS = "matrix.json", "results.json", "report.html", "rows", "cells"


def compare(matrix: Matrix, out: Path, typed: str, jobs: int | None, shown: Bar) -> dict[str, Any]:
    """Run what is missing, row by row; after each row the result and its page are written. Returns the result, with the
    rows of all commands that worked in this folder."""
    matrix.check()
    (out / ROWS).mkdir(parents=True, exist_ok=True)
    _check_plan(matrix, out)
    result: dict[str, Any] = {}
    for label in matrix.tasks:
        row = run_row(matrix, label, out / CELLS, jobs=jobs, bar=_named(label, shown))
        integrity.write(out / ROWS / f"{records.digest([label, row['task']])}.json", row)
        result = collect(out, typed)
    return result


def collect(out: Path, typed: str) -> dict[str, Any]:
    """The result of all finished rows, which is also written with its page."""
    with files.lock(out / files.FOLDER_LOCK, wait=True):
        found = [integrity.read(path) for path in sorted((out / ROWS).glob("*.json"))]
        rows = {row["label"]: row for row in sorted(found, key=lambda row: row["label"])}
        shared = files.read_json(out / PLAN)
        result: dict[str, Any] = {"format": "aria-matrix/1", "command": typed, "tuning": shared["tuning"], "rows": rows}
        if rows:
            result["summary"] = summary.summary(rows)
            files.write_text(out / RESULT, json.dumps(result) + "\n")
            files.write_text(out / PAGE, matrix_page.page(result))
    return result


def _check_plan(matrix: Matrix, out: Path) -> None:
    """Refuse a folder whose rows could not be compared with these: of another grid, search, length or settings, or of
    another task with the same label."""
    plan = matrix.shared()
    with files.lock(out / files.FOLDER_LOCK, wait=True):
        known = files.read_json(out / PLAN) if (out / PLAN).is_file() else {**plan, "tasks": {}}
        if differ := [name for name, value in plan.items() if known.get(name) != value]:
            message = f"{out} holds a matrix of another {' and '.join(differ)}: choose another folder"
            raise InvalidSetting("out", "conflict", message)
        own = {label: registry.spec(task) for label, task in matrix.tasks.items()}
        if other := [label for label, task in own.items() if known["tasks"].get(label, task) != task]:
            message = f"{out} holds another task with the label {other[0]!r}: choose another label or folder"
            raise InvalidSetting("out", "conflict", message)
        files.write_json(out / PLAN, {**plan, "tasks": known["tasks"] | own})


def _named(label: str, shown: Bar) -> Bar:
    return lambda what: shown(f"{label}: {what}")
