"""Writing so that a kill at any moment leaves the old or the new, never a half."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

from safetensors.torch import save_file
from torch import Tensor

from aria import whole_file

LOCK = "lock"
"""Ending of the file by which a folder that is being written is known."""


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """A fresh folder to fill, which takes the place of ``target`` once it is complete and on disk.

    A link to a folder stays one. Who would write the same folder meanwhile is refused.
    """
    target = target.resolve() if target.is_symlink() else target
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} is a file, not a folder")
    temporary, old, taken = (_beside(target, ending) for ending in ("part", "old", LOCK))
    if not target.parent.exists():  # of a file in its place the lock says that it is no folder
        target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target, taken):
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
        whole_file.sync(target.parent)
        shutil.rmtree(old, ignore_errors=True)


def lock(path: Path, *, wait: bool = False) -> IO[str]:
    """A file that no other process has until it is closed, by whatever ends this one; BlockingIOError if one has it.

    Whoever has it may remove it: who then gets what was removed tries again.
    """
    while True:
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except FileNotFoundError:
            pass  # removed between the two looks
        except BaseException:
            file.close()
            raise
        file.close()


@contextmanager
def _alone(target: Path, taken: Path) -> Iterator[None]:
    try:
        file = lock(taken)
    except BlockingIOError:
        raise ValueError(f"another process is writing {target}; wait for it or choose another folder") from None
    with file:
        try:
            yield
        finally:
            taken.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove a folder; killed meanwhile, no half of it is left under its name."""
    gone = _beside(folder, "old")
    folder.rename(gone)
    shutil.rmtree(gone)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written in ``folder``; only the folder's one owner may.

    A folder within it that another process is filling right now is left to that one.
    """
    for entry in [path for ending in ("part*", "old", LOCK) for path in folder.glob(f".*.{ending}")]:
        taken = entry.with_suffix(f".{LOCK}")
        with suppress(BlockingIOError), lock(taken) if taken.exists() else nullcontext():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
            taken.unlink(missing_ok=True)


def flush(folder: Path) -> None:
    """Everything under ``folder`` on disk."""
    for path in [*folder.rglob("*"), folder]:
        whole_file.sync(path)


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name}.{ending}")


def write_text(path: Path, text: str) -> None:
    """A whole file at once."""
    with whole_file.replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # the latter of a thousand brackets within one another
        raise ValueError(f"{path}: no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: not a JSON object")
    return value


def write_json(path: Path, value: Any) -> None:
    """A JSON file at once."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file of tensors from any device."""
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)


def sizes(folder: Path) -> dict[str, int]:
    """The size in bytes of every file under ``folder``."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()
    }
