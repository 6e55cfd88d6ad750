"""The logs of a run, in JSON lines: appended to during the run, truncated when it is resumed, read by reports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aria import files
from aria.fields import AMOUNT, NUMBER, POSITIVE, PROBABILITY, TEXT, WHOLE, Field, check, each, record
from aria.regular import LOG, is_there, read_bytes, regular

LOSSES, DISCREPANCIES = "losses.jsonl", "discrepancies.jsonl"
"""Names of the logs in a run's folder: the terms of the loss, and what was observed of each region."""
PARTITION = "partition.safetensors"
"""Name of the file beside them with the regions that the second numbers."""
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
    """Delete rows after ``step``, from which a run resumes, and an incomplete last line, which begins as a row does.

    Steps never decrease, so all lines from the first later row on are deleted unread; one before it that is no row is
    refused."""
    if not is_there(path):
        return
    kept = []
    with regular(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if step == 0 or (not line.endswith(b"\n") and line.startswith(b"{")):
                break
            if _step(path, number, line) > step:
                break
            kept.append(line)
    with files.replacing(path) as unfinished:
        unfinished.write_bytes(b"".join(kept))


def _step(path: Path, number: int, line: bytes) -> int:
    try:
        row = _parsed(path, number, line.decode("utf-8"))
        return int(check(f"{path}, line {number}", row, STEP)["step"])
    except UnicodeDecodeError as error:
        what = f"{path}, line {number}: no text in UTF-8: {error.reason} at byte {error.start}"
    except ValueError as error:
        what = str(error)
    raise ValueError(f"{what}; mend the line, or remove the file to resume without what was logged before")
