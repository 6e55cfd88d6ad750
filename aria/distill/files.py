"""Writing so that a kill at any moment leaves the old or the new, never a half."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from aria.partitioners.io import replaceable
from aria.partitioners.io import system_errors as system_errors


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A fresh folder to fill, which takes the place of ``target`` once it is complete and on disk."""
    temporary, old = _beside(target, "part"), _beside(target, "old")
    if not target.parent.exists():  # of a file in its place the lock says that it is no folder
        target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target):
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
        _sync(target.parent)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def replacing_file(target: Path) -> Iterator[Path]:
    """Where to write a file, which takes the place of ``target`` once it is complete and on disk."""
    target = replaceable(target)
    temporary = _beside(target, "part")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(target.parent)  # the name, too, must outlive a loss of power


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Refuses who would write ``target`` meanwhile; the system frees it when the process ends, however it ends."""
    lock = _beside(target, "lock.part")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is writing {target}; wait for it or choose another folder") from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before what it is to hold is made."""
    folder = path.absolute().parent
    replaceable(path)
    if not os.path.isdir(folder):
        raise ValueError(f"there is no folder {path.parent} to write {path.name} to")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"nothing can be written to {path.parent}: it is read-only")


def remove(folder: Path) -> None:
    """Remove a folder; killed meanwhile, no half of it is left under its name."""
    gone = _beside(folder, "old")
    folder.rename(gone)
    shutil.rmtree(gone)


def sweep(folder: Path) -> None:
    """Remove what a killed run left half written under ``folder``; only the folder's one owner may."""
    for pattern in (".*.part", ".*.old"):
        for entry in folder.glob(pattern):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def flush(folder: Path) -> None:
    """Everything under ``folder`` on disk."""
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def flush_names(folder: Path) -> None:
    """The names in ``folder`` on disk."""
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name}.{ending}")


def write_text(path: Path, text: str) -> None:
    """A whole file at once."""
    with replacing_file(path) as unfinished:
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
