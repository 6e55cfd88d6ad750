"""Writing a file whole or not at all: a kill at any moment leaves the old or the new, never a half."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

LONGEST = 16
"""Of an ending that the unfinished file has as well, since programs tell a file's kind by it."""


@contextmanager
def replacing(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Where to write a file of the same ending, which takes the place of ``target`` once it is complete and on disk.

    Each process has a place of its own, so of two who write one file the last to finish is the one that stays. What
    the system refuses on the way names ``target``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/a.txt") as unfinished:
    ...         _ = unfinished.write_text("whole")
    ...     Path(folder, "a.txt").read_text()
    'whole'
    """
    path = replaceable(Path(target))
    ending = path.suffix if len(path.suffix) <= LONGEST else ""
    unfinished = path.with_name(f".{os.getpid()}-{crc32(os.fsencode(path.name)):08x}.part{ending}")
    try:
        yield unfinished
        sync(unfinished)
        unfinished.replace(path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(unfinished)):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
    finally:
        unfinished.unlink(missing_ok=True)
    sync(path.parent)  # the name, too, must outlive a loss of power


def replaceable(target: Path) -> Path:
    """The file that ``target`` is or links to; a folder, or what a rename must not replace (/dev/null), is refused."""
    if os.path.isdir(target):  # False, not an error, of a name that no disk takes
        raise ValueError(f"{target} is a folder, give a file")
    if os.path.exists(target) and not os.path.isfile(target):
        raise ValueError(f"{target} is a device or a pipe, give a file")
    return target.resolve() if target.is_symlink() else target


def check_writable(target: Path) -> None:
    """Refuse a file that cannot be written, before what it is to hold is made."""
    path = replaceable(target)
    folder = path.absolute().parent
    if not os.path.isdir(folder):
        raise ValueError(f"there is no folder {path.parent} to write {path.name} to")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"nothing can be written to {path.parent}: permission denied")


@contextmanager
def system_errors(place: str | os.PathLike[str]) -> Iterator[None]:
    """What the system refused to safetensors (a full disk, say) as the OSError that it is."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), os.fspath(place)) from error


def sync(path: Path) -> None:
    """A file, or the names in a folder, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
