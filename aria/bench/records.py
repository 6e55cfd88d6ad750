"""The numbers a comparison measures, and the files that keep them: one for each arm and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aria import files

Record = dict[str, Any]
"""One number: arm, seed, step, metric, group, value."""


def digest(values: Any) -> str:
    """The name of what these JSON values determine: the beginning of their SHA-256 hash.

    >>> digest({"seed": 0, "floor": 0.2}) == digest({"floor": 0.2, "seed": 0})
    True
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:24]


def file(folder: Path, cell: str) -> Path:
    """Where the records of a cell are kept."""
    return folder / f"{cell}.json"


def write(path: Path, records: Sequence[Record]) -> None:
    """Keep the records of one cell."""
    files.write_text(path, json.dumps(records))


def read(path: Path) -> list[Record]:
    """The records of one cell."""
    records: list[Record] = json.loads(path.read_text(encoding="utf-8"))
    return records
