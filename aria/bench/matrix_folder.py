"""A matrix in a folder: run row by row; what is done is kept, can be continued, and is shared by several commands.

Each finished row is a file in ``rows``; the result and its page are made of all of them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from aria import files, integrity, registry
from aria.bench import matrix_page, records, summary
from aria.bench.arms import Arm
from aria.bench.matrix import STATIC, Matrix, run_row
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
    for label, task in matrix.tasks.items():
        path = out / ROWS / f"{records.digest([label, registry.spec(task)])}.json"
        row = run_row(_united(matrix, path, out), label, out / CELLS, jobs=jobs, bar=_named(label, shown))
        integrity.write(path, row)
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


def _united(matrix: Matrix, row: Path, out: Path) -> Matrix:
    """The matrix with the arms and seeds that a finished row has as well, so that it never loses any."""
    if not row.is_file():
        return matrix
    found, known = integrity.read(row), files.read_json(out / PLAN)["arms"]
    names = dict.fromkeys(record["arm"] for record in found["records"])
    more = [name for name in names if name != STATIC and name not in {arm.name for arm in matrix.arms}]
    if unknown := [name for name in more if name not in known]:
        message = f"{row} has the arm {unknown[0]}, of which the folder does not keep the settings: name it again"
        raise InvalidSetting("arms", "missing", message)
    arms = [*matrix.arms, *(Arm(**known[name]) for name in more)]
    return replace(matrix, arms=arms, seeds=sorted({*matrix.seeds, *found["seeds"]}))


def _check_plan(matrix: Matrix, out: Path) -> None:
    """Refuse a folder whose rows could not be compared with these: of another grid, search, length or settings, or of
    another task with the same label or another arm with the same name."""
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
        arms = {arm.name: asdict(arm) for arm in matrix.arms}
        kept = known.get("arms", {})
        if other := [name for name, settings in arms.items() if kept.get(name, settings) != settings]:
            message = f"{out} holds another arm called {other[0]}: choose another name or folder"
            raise InvalidSetting("arms", "conflict", message)
        files.write_json(out / PLAN, {**plan, "tasks": known["tasks"] | own, "arms": kept | arms})


def _named(label: str, shown: Bar) -> Bar:
    return lambda what: shown(f"{label}: {what}")
