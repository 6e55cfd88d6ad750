"""Logs in JSON lines: appended to during a run, truncated when it is resumed, read by reports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aria import files
from aria.fields import AMOUNT, NUMBER, POSITIVE, PROBABILITY, TEXT, WHOLE, Field, check, each, record
from aria.regular import LOG, is_there, read_bytes

STEP = {"step": WHOLE}
REGION = {"region": WHOLE, "n": POSITIVE, "mean": NUMBER, "q": PROBABILITY}
"""The fields of a line of the log of regions that reports need."""
GAP = {"gap": NUMBER, "prompts": each(record({"prompt": TEXT, "gap": NUMBER}), of="objects with prompt and gap")}
"""Those of a line of the log of validations."""


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add one line for each row."""
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def read(path: Path, known: Mapping[str, Field]) -> list[dict[str, Any]]:
    """The rows of a log; none if there is no log yet. An incomplete last line, which is still being written or was when
    the run was killed, is skipped; any other line is refused unless it is an object with a step and with the ``known``
    fields, as they are declared."""
    if not is_there(path):
        return []
    whole, _, _ = read_bytes(path, most=LOG).decode(errors="replace").rpartition("\n")
    return [
        check(f"{path}, line {number}", _parsed(path, number, line), STEP | dict(known))
        for number, line in enumerate(whole.split("\n") if whole else [], 1)
    ]


def read_losses(path: Path) -> list[dict[str, Any]]:
    """The rows of a log of losses, all with the terms of the first, which :func:`terms` names."""
    rows = read(path, {"steps_per_second": AMOUNT, "lr": NUMBER})
    for number, row in enumerate(rows, 1):
        check(f"{path}, line {number}", row, dict.fromkeys(terms(rows), NUMBER))
    return rows


def terms(losses: Sequence[Mapping[str, Any]]) -> list[str]:
    """The terms of the loss in a log of losses."""
    return [name for name in losses[0] if name not in {"step", "lr", "steps_per_second"}] if losses else []


def _parsed(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:  # the first also for a number of 5000 digits
        raise ValueError(f"{path}, line {number}: no JSON: {error}") from None


def drop_after(path: Path, step: int) -> None:
    """Delete rows after ``step``, from which a run resumes, and an incomplete last line."""
    if not path.is_file():
        return
    kept = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if line.endswith("\n") and check(f"{path}, line {number}", row, STEP)["step"] <= step:
            kept.append(line)
    files.write_text(path, "".join(kept))
