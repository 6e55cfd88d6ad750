"""Files, folders and locks: a kill at any moment leaves the old content or the new, never a half.

Everything that is written goes through here. Loads neither torch nor safetensors before tensors are written.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from zlib import crc32

if TYPE_CHECKING:
    from filelock import FileLock
    from torch import Tensor

LOCK = "lock"
"""Suffix of the lock file beside a folder that is being written."""
LONGEST_SUFFIX = 16
"""An unfinished file gets the suffix of its target, by which libraries choose a format, unless it is longer."""
FOLDER_LOCK = f".{LOCK}"
"""The name of the lock in a folder that has one writer at a time."""
PATIENCE = 0.05
"""Seconds for which :func:`lock` tries again even if it shall not wait: its holder may just be removing the file."""

CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of a folder that this process may only read."""

log = logging.getLogger(__name__)


# ---------------------------------------------------------------------------------------------------------------- files


@contextmanager
def replacing(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write a file to, which replaces ``target`` once it is complete and on disk.

    Each process writes to a path of its own, so of two that write one file the last to finish wins. An error of the
    operating system names ``target``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/a.txt") as unfinished:
    ...         _ = unfinished.write_text("whole")
    ...     Path(folder, "a.txt").read_text()
    'whole'
    """
    path = replaceable(Path(target))
    suffix = path.suffix if len(path.suffix) <= LONGEST_SUFFIX else ""
    unfinished = path.with_name(f".{os.getpid()}-{crc32(os.fsencode(path.name)):08x}.part{suffix}")
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
    sync(path.parent)  # the name, too, must survive a loss of power


def replaceable(target: Path) -> Path:
    """The file that ``target`` is or links to; refuses a folder, and what a rename must not replace (/dev/null)."""
    if os.path.isdir(target):  # False, not an error, for a name that no disk accepts
        raise ValueError(f"{target} is a folder, give a file")
    if os.path.exists(target) and not os.path.isfile(target):
        raise ValueError(f"{target} is a device or a pipe, give a file")
    return target.resolve() if target.is_symlink() else target


def check_writable(target: Path) -> None:
    """Refuse a file that cannot be written, before its content is computed."""
    path = replaceable(target)
    folder = path.absolute().parent
    if not os.path.isdir(folder):
        raise ValueError(f"there is no folder {path.parent} to write {path.name} to")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"nothing can be written to {path.parent}: permission denied")


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # the latter for thousands of nested brackets
        raise ValueError(f"{path}: no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: not a JSON object")
    return value


def write_json(path: Path, value: Any) -> None:
    """Write a whole JSON file."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


# -------------------------------------------------------------------------------------------------------------- tensors


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file of tensors on any device; not atomic, for files in a folder that is."""
    from safetensors.torch import save_file

    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)


@contextmanager
def system_errors(place: str | os.PathLike[str]) -> Iterator[None]:
    """Turn a ``SafetensorError`` that reports an error of the system, such as a full disk, into that ``OSError``."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), os.fspath(place)) from error


# -------------------------------------------------------------------------------------------------------------- folders


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """A fresh folder to fill, which replaces ``target`` once it is complete and on disk.

    A link to a folder stays a link. While one process fills the folder, others that want to are refused.
    """
    target = target.resolve() if target.is_symlink() else target
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} is a file, not a folder")
    temporary, old, lock_file = (_beside(target, suffix) for suffix in ("part", "old", LOCK))
    if not target.parent.exists():  # if it is a file, opening the lock file says so
        target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target, lock_file):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            flush(temporary)
            shutil.rmtree(old, ignore_errors=True)
            if target.exists():
                target.rename(old)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            if old.exists() and not target.exists():
                old.rename(target)
            raise
        sync(target.parent)
        shutil.rmtree(old, ignore_errors=True)


def refuse_links(folder: Path) -> None:
    """Refuse a folder that has links in it: what is written through them would be written elsewhere."""
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise ValueError(f"{path} is a link, and would be written through: remove it, or choose another folder")


def remove(folder: Path) -> None:
    """Remove a folder; a kill on the way leaves no half of it under its name."""
    renamed = _beside(folder, "old")
    folder.rename(renamed)
    shutil.rmtree(renamed)


def sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished in ``folder``; only the one owner of the folder may.

    A folder inside it that another process is filling right now is left alone.
    """
    for entry in [path for suffix in ("part*", "old", LOCK) for path in folder.glob(f".*.{suffix}")]:
        lock_file = entry.with_suffix(f".{LOCK}")
        with suppress(BlockingIOError), lock(lock_file) if lock_file.exists() else nullcontext():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
            lock_file.unlink(missing_ok=True)


def flush(folder: Path) -> None:
    """Flush everything under ``folder`` to disk."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(f".{target.name}.{suffix}")


# ---------------------------------------------------------------------------------------------------------------- locks


class Lock:
    """A file that no other process can lock until it is closed or this process ends, however it ends."""

    def __init__(self, held: FileLock) -> None:
        self._held = held

    def close(self) -> None:
        """Release the lock; the file stays."""
        self._held.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def lock(path: Path, *, wait: bool = False) -> Lock:
    """Lock a file, which is created if need be; ``BlockingIOError`` if another process holds it and ``wait`` is False.
    Waiting for it is logged.

    The holder may remove the file: whoever got the removed file tries again.
    """
    from filelock import FileLock, Timeout

    path.touch()  # an error here names what is wrong with the folder, which filelock would create
    held = FileLock(path, thread_local=False, fallback_to_soft=False)  # a soft lock outlives a killed process
    try:
        held.acquire(timeout=PATIENCE, poll_interval=PATIENCE / 5)
    except Timeout as error:
        if not wait:
            raise BlockingIOError(f"{path} is locked by another process") from error
        log.warning("waiting for the process that fills %s", path.parent)
        held.acquire(poll_interval=PATIENCE / 5)
    return Lock(held)


@contextmanager
def locked_folder(folder: Path, name: str = FOLDER_LOCK, *, wait: bool = False) -> Iterator[None]:
    """Create a folder and lock the file ``name`` in it. A new one that still has nothing else at the end is removed."""
    new = not folder.exists()
    with _lock_in(folder, name, wait):
        try:
            yield
        finally:
            with suppress(OSError):  # another process may be about to lock it
                if new and [entry.name for entry in folder.iterdir()] == [name]:
                    (folder / name).unlink()
                    folder.rmdir()


def _lock_in(folder: Path, name: str, wait: bool, tries: int = 9) -> Lock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return lock(folder / name, wait=wait)
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, "File exists, and it is not a folder", str(folder)) from None
    except FileNotFoundError:
        if not tries:
            raise
        return _lock_in(folder, name, wait, tries - 1)  # another process had made it, and has just removed it


@contextmanager
def _alone(target: Path, lock_file: Path) -> Iterator[None]:
    try:
        held = lock(lock_file)
    except BlockingIOError:
        raise ValueError(f"another process is writing {target}; wait for it or choose another folder") from None
    with held:
        try:
            yield
        finally:
            lock_file.unlink(missing_ok=True)


def contents(folder: Path) -> str:
    """What a folder holds instead of what was expected, in brackets, for the end of a refusal."""
    if folder.is_file():
        return " (it is a file)"
    if not folder.is_dir():
        return " (there is no such folder)"
    found = sorted(entry.name for entry in folder.iterdir())
    return f" (it holds {', '.join(found[:6])}{', …' if len(found) > 6 else ''})" if found else " (it is empty)"
