"""The numbers a comparison measures, and the files that keep them: one for each arm and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aria import integrity
from aria.fields import NUMBER, TEXT, WHOLE, check, short
from aria.regular import regular

Record = dict[str, Any]
"""One number: arm, seed, step, metric, group, value."""
FIELDS = {"arm": TEXT, "seed": WHOLE, "step": WHOLE, "metric": TEXT, "group": TEXT, "value": NUMBER}
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


def write(path: Path, records: Sequence[Record], worth: Mapping[str, Any] | None = None) -> None:
    """Keep the records of one cell, and what its log says allocating over its regions is ``worth``."""
    known = {} if worth is None else {"worth": dict(worth)}
    integrity.write(path, {"format": FORMAT, "records": list(records), **known})


def worth(path: Path) -> dict[str, Any] | None:
    """What the log of a cell says about its regions; None where it was not estimated."""
    value: dict[str, Any] | None = integrity.read(regular(path)).get("worth")
    return value


def read(path: Path, arm: str, seed: int) -> list[Record]:
    """The records of one cell. A file that was changed, or that holds anything else, is refused."""
    try:
        value = integrity.read(regular(path))
        if value.get("format") != FORMAT:
            raise ValueError(f"{path}: its format is {short(value.get('format'))}, not {FORMAT}")
        records = value.get("records")
        if not isinstance(records, list):
            raise ValueError(f"{path}: records must be a list, got {short(records)}")
        if not records:
            raise ValueError(f"{path} has no records")
        return [_checked(record, arm, seed, f"{path}: record {number}") for number, record in enumerate(records)]
    except ValueError as error:
        raise ValueError(f"{error}; remove the file to compute the cell {arm}, seed {seed} again") from None


def _checked(value: Any, arm: str, seed: int, place: str) -> Record:
    """Refuse what is no record of this arm and seed."""
    record = check(place, value, FIELDS)
    if more := sorted(record.keys() - FIELDS.keys()):
        raise ValueError(f"{place} must have the fields {', '.join(FIELDS)} alone, has {short(more)}")
    if (record["arm"], record["seed"]) != (arm, seed):
        raise ValueError(f"{place} is of arm {short(record['arm'])}, seed {record['seed']}")
    return record
