"""Hashes that tell whether a file still is what was written: SHA-256, kept in an index that carries its own.

``{"files": {"weights.safetensors": "9f86…"}, "step": 10, "sha256": "2c26…"}``: the last is the hash of all the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aria import files

SEAL = "sha256"
PIECE = 1 << 24
"""Bytes that are read at a time: while they are hashed, Python's other threads run."""


class Damaged(ValueError):
    """A file is not what was written."""


def digest(path: Path) -> str:
    """The SHA-256 of a file's content."""
    seen = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            seen.update(piece)
    return seen.hexdigest()


def hashes(folder: Path) -> dict[str, str]:
    """The hash of every file under ``folder``, by relative path; several files at a time."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    with ThreadPoolExecutor() as pool:
        return {
            path.relative_to(folder).as_posix(): one for path, one in zip(found, pool.map(digest, found), strict=True)
        }


def hashes_flushed(folder: Path) -> dict[str, str]:
    """:func:`hashes` of a folder's files, computed while they are flushed to disk."""
    with ThreadPoolExecutor(1) as pool:
        flushed = pool.submit(files.flush, folder)
        found = hashes(folder)
        flushed.result()
    return found


def verify(folder: Path, hashes: Mapping[str, str]) -> None:
    """Refuse a folder in which a file is missing or has another hash than ``hashes`` says, by relative path."""
    if missing := [name for name in hashes if not (folder / name).is_file()]:
        raise Damaged(f"{folder} is damaged: {missing[0]} is missing")
    with ThreadPoolExecutor() as pool:
        found = pool.map(digest, [folder / name for name in hashes])
        for (name, expected), actual in zip(hashes.items(), found, strict=True):
            if actual != expected:
                raise Damaged(f"{folder} is damaged: {name} does not match its hash")


def write(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object together with the hash of its content."""
    files.write_json(path, {**value, SEAL: _seal(value)})


def read(path: Path) -> dict[str, Any]:
    """The JSON object in a file that :func:`write` has written."""
    value = files.read_json(path)
    if SEAL not in value:
        raise Damaged(f"{path} carries no hash: it was edited, or written by another program or version")
    if value.pop(SEAL) != _seal(value):
        raise Damaged(f"{path} is damaged: its content does not match its hash")
    return value


def _seal(value: Mapping[str, Any]) -> str:
    """The hash of the content, however the file is indented.

    >>> _seal({"a": 1, "b": (2, 3)}) == _seal({"b": [2, 3], "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
