"""A matrix in a folder: run row by row; what is done is kept, and can be continued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aria import files
from aria.bench import device, matrix_page, summary
from aria.bench.matrix import Matrix, run_row
from aria.bench.result import machine
from aria.checks import InvalidSetting
from aria.progress import Bar

PLAN, RESULT, PAGE = "matrix.json", "results.json", "report.html"


def compare(matrix: Matrix, out: Path, typed: str, jobs: int | None, shown: Bar) -> dict[str, Any]:
    """Run what is missing, row by row; after each row the result and its page are written."""
    out.mkdir(parents=True, exist_ok=True)
    _check_plan(matrix, out / PLAN)
    result: dict[str, Any] = {"format": "aria-matrix/1", "command": typed, "planned": len(matrix.tasks)}
    result |= {"seeds": list(matrix.seeds), "tuning": list(matrix.tuning)}
    result |= {"machine": machine(device.chosen(matrix.device)), "rows": {}}
    for label in matrix.tasks:
        result["rows"][label] = run_row(matrix, label, out / "cells", jobs=jobs, bar=_named(label, shown))
        result["summary"] = summary.summary(result["rows"])
        files.write_text(out / RESULT, json.dumps(result, indent=1) + "\n")
        files.write_text(out / PAGE, matrix_page.page(result))
    return result


def _check_plan(matrix: Matrix, path: Path) -> None:
    """Refuse a folder whose rows were made with other arms, seeds or settings."""
    plan = matrix.identity()
    if not path.is_file():
        files.write_json(path, plan)
        return
    found = files.read_json(path)
    if differ := [name for name, value in plan.items() if found.get(name) != value]:
        message = f"{path.parent} holds a matrix of other {' and '.join(differ)}: choose another folder"
        raise InvalidSetting("out", "conflict", message)


def _named(label: str, shown: Bar) -> Bar:
    return lambda what: shown(f"{label}: {what}")
