"""The numbers a comparison measures, and the files that keep them: one for each arm and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aria import integrity

Record = dict[str, Any]
"""One number: arm, seed, step, metric, group, value."""
FIELDS = {"arm": str, "seed": int, "step": int, "metric": str, "group": str, "value": int | float}
FORMAT = "aria-cell/2"


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
    integrity.write(path, {"format": FORMAT, "records": list(records)})


def read(path: Path, arm: str, seed: int) -> list[Record]:
    """The records of one cell. A file that was changed, or that holds anything else, is refused."""
    try:
        value = integrity.read(path)
        if value.get("format") != FORMAT:
            raise ValueError(f"{path}: its format is {value.get('format')!r}, not {FORMAT}")
        records: list[Record] = value["records"]
        if not records:
            raise ValueError(f"{path} has no records")
        for number, record in enumerate(records):
            _check(record, arm, seed, f"{path}: record {number}")
    except ValueError as error:
        raise ValueError(f"{error}; remove the file to compute the cell {arm}, seed {seed} again") from None
    return records


def _check(record: Any, arm: str, seed: int, place: str) -> None:
    """Refuse what is no record of this arm and seed."""
    if not isinstance(record, dict) or record.keys() != FIELDS.keys():
        raise ValueError(f"{place} must have the fields {', '.join(FIELDS)}, got {record!r:.200}")
    for name, kind in FIELDS.items():
        if not isinstance(record[name], kind) or isinstance(record[name], bool):
            raise ValueError(f"{place} has {name} = {record[name]!r:.100}")
    if (record["arm"], record["seed"]) != (arm, seed):
        raise ValueError(f"{place} is of arm {record['arm']}, seed {record['seed']}")
