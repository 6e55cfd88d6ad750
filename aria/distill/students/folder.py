"""A student on disk: a diffusers model folder, with two JSON files beside the weights.

- ``student.json``: where it comes from, its size and the feature pairs; read by :func:`read_record`.
- ``inheritance.json``: for each tensor whether it was copied, sliced or is fresh, and from which tensor.

The folder is written under another name and renamed, so that it is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import ModelMixin

from aria import files
from aria.distill.students.config import Config, public
from aria.distill.students.inherit import Inheritance
from aria.fields import Field, check
from aria.regular import read_object

FORMAT = "aria-student/1"
RECORD = "student.json"
INHERITANCE = "inheritance.json"
RECORDS = 16 << 20
"""Bytes of a record."""
def _are_pairs(value: Any) -> bool:
    pairs = isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value)
    return pairs and all(isinstance(name, str) for pair in value for name in pair)


PAIRS = Field(_are_pairs, "a list of pairs of modules")


def config_digest(config: Config) -> str:
    """SHA-256 of a config, whatever the order of its keys and the folder it was read from."""
    text = json.dumps(public(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def check_output(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that a student cannot be written to: one with other things in it, or a file."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, not a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise ValueError(f"{folder} is not empty; choose another folder, or allow to overwrite it (--overwrite)")
    if not (folder / RECORD).is_file():
        raise ValueError(f"{folder} is not empty and no student (it has no {RECORD}), so it is not overwritten")


def write_student(
    folder: str | Path,
    student: ModelMixin,
    record: Mapping[str, Any],
    inheritance: Inheritance,
    *,
    overwrite: bool = False,
) -> None:
    """Write the student, its ``record`` and its ``inheritance`` to ``folder``, which must be absent or empty.

    With ``overwrite`` an earlier student may be there and is replaced.
    """
    target = Path(folder).resolve()
    check_output(target, overwrite=overwrite)
    try:
        with files.replacing_folder(target) as fresh, files.system_errors(fresh):
            student.save_pretrained(fresh)
            files.write_json(fresh / RECORD, {"format": FORMAT, **record})
            files.write_json(fresh / INHERITANCE, inheritance.as_json())
    except OSError as error:
        raise ValueError(f"cannot write {folder}: {error.strerror or error}") from error


def read_record(folder: str | Path) -> dict[str, Any]:
    """The record of a student's folder."""
    path = Path(folder) / RECORD
    try:
        record = read_object(path, most=RECORDS)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ValueError(f"{path} is no record of a student: {error}") from None
    if record.get("format") != FORMAT:
        raise ValueError(f"{path} is no record of a student (format {FORMAT!r})")
    return record


def read_feature_pairs(folder: str | Path) -> list[tuple[str, str]]:
    """(teacher's module, student's module) for feature distillation, from a student's folder."""
    record = check(str(Path(folder) / RECORD), read_record(folder), {"feature_pairs": PAIRS})
    return [(teacher, student) for teacher, student in record["feature_pairs"]]
