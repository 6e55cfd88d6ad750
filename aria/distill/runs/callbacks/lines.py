"""Logs in JSON lines: appended to during a run, truncated when it is resumed, read by reports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aria import files


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add one line for each row."""
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; none if there is no log yet. An incomplete last line, which is still being written or was when
    the run was killed, is skipped; any other line that is not a JSON object is refused."""
    if not path.is_file():
        return []
    whole, _, _ = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    rows = []
    for number, line in enumerate(whole.split("\n") if whole else [], 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: no JSON: {error}") from None
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise ValueError(f"{path}, line {number}: it must be an object with a whole step")
        rows.append(row)
    return rows


def drop_after(path: Path, step: int) -> None:
    """Delete rows after ``step``, from which a run resumes, and an incomplete last line."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if line.endswith("\n") and row["step"] <= step:
            kept.append(line)
    files.write_text(path, "".join(kept))
