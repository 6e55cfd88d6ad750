"""Files that someone else has made: only regular files of a reasonable size are read, whatever stands in their place.

A pipe or a device in the place of a file would let a reader wait for ever, or read without end; a link in a folder that
was sent to someone would let what is shown of it include other files of theirs.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

SETTINGS = 1 << 20
"""Bytes of a JSON file that describes a run, a model or a partition."""
NESTED = 32
"""Most objects and lists within one another."""
LOG = 1 << 34
"""Bytes of a log: more than a run of millions of steps writes."""
PIECE = 1 << 20
"""Bytes that are read at a time, so that a large limit takes no memory for a small file."""
_OTHERS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
    stat.S_ISLNK: "a link",
}


def regular(path: str | os.PathLike[str]) -> Path:
    """The path of a regular file, or of a link to one; anything else is refused, before it is opened."""
    _check(path, os.stat(path).st_mode)
    return Path(path)


def _check(path: str | os.PathLike[str], mode: int) -> None:
    for is_kind, name in _OTHERS.items():
        if is_kind(mode):
            raise ValueError(f"{os.fspath(path)} is {name}, not a file")


def is_there(path: Path) -> bool:
    """Whether anything stands at ``path``, even a link to nothing, which readers then refuse."""
    return os.path.lexists(path)


def own(folder: Path, *names: str) -> Path:
    """The path of a regular file inside ``folder``; neither it nor a folder on the way to it may be a link."""
    path = folder
    for name in names:
        path /= name
        if path.is_symlink():
            raise ValueError(
                f"{path} is a link, and could show another file as this folder's own: put a copy in its place"
            )
    return regular(path)


def read_bytes(path: str | os.PathLike[str], *, most: int) -> bytes:
    """The content of a regular file of at most ``most`` bytes."""
    handle = os.open(regular(path), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(handle, "rb") as file:
        _check(path, os.fstat(handle).st_mode)  # it may have been replaced since
        content = bytearray()
        while len(content) <= most and (piece := file.read(min(PIECE, most + 1 - len(content)))):
            content += piece
    if len(content) > most:
        raise ValueError(f"{os.fspath(path)} is larger than {most:,} bytes, the most that is read of such a file")
    return bytes(content)


def read_text(path: str | os.PathLike[str], *, most: int = SETTINGS) -> str:
    """The content of a regular file in UTF-8."""
    try:
        return read_bytes(path, most=most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)} is no text in UTF-8: {error.reason} at byte {error.start}") from None


def read_object(path: str | os.PathLike[str], *, most: int = SETTINGS) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        value = json.loads(read_bytes(path, most=most))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)} is no JSON object: {error}") from None
    check_nesting(os.fspath(path), value)
    if not isinstance(value, dict):
        raise ValueError(f"{os.fspath(path)} is no JSON object: it holds a {type(value).__name__}")
    return value


def check_nesting(where: str, value: Any) -> None:
    """Refuse objects and lists that are nested more deeply than :data:`NESTED`: what walks through them may recurse."""
    level = [value]
    for _ in range(NESTED):
        level = [inner for held in level if isinstance(held, dict | list)
                 for inner in (held.values() if isinstance(held, dict) else held)]  # fmt: skip
        if not level:
            return
    raise ValueError(f"{where}: its objects and lists are nested more than {NESTED} deep")
