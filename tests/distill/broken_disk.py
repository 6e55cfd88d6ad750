"""A disk on which every operation fails from a given one on, which leaves the files of a process killed there.

An exception alone would be no kill, since code that cleans up would still run; here it cannot change a thing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch


class Killed(BaseException):
    """The process ended here."""


class Disk:
    """Counts operations, and fails from the one numbered ``last`` on; that one is done halfway."""

    def __init__(self, last: int | None = None) -> None:
        self.last, self.count = last, 0

    def guarded(self, operation: Callable[..., Any], halfway: Callable[..., Any] | None = None) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.last is not None and self.count >= self.last:
                if halfway is not None and self.count == self.last:
                    halfway(*args, **kwargs)
                raise Killed
            return operation(*args, **kwargs)

        return call


def _half_a_file(tensors: Any, path: Any, *rest: Any, **kwargs: Any) -> None:
    Path(path).write_bytes(b"\x08half")


def _half_a_text(path: Path, text: str, *rest: Any, **kwargs: Any) -> None:
    path.write_bytes(text.encode()[: len(text) // 2])


def _half_a_tree(path: Any, *rest: Any, **kwargs: Any) -> None:
    inside = [entry for entry in sorted(Path(path).rglob("*")) if entry.is_file()] if Path(path).exists() else []
    for entry in inside[: -(-len(inside) // 2)]:
        entry.unlink()


@contextmanager
def broken(monkeypatch: pytest.MonkeyPatch, last: int | None = None) -> Iterator[Disk]:
    """Within, operations are counted, and fail from ``last`` on."""
    disk = Disk(last)
    save, rmtree, write = safetensors.torch.save_file, shutil.rmtree, Path.write_text
    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", disk.guarded(save, _half_a_file))
        patch.setattr(shutil, "rmtree", disk.guarded(rmtree, _half_a_tree))
        patch.setattr(Path, "write_text", disk.guarded(write, _half_a_text))
        patch.setattr(os, "fsync", lambda handle: None)  # the power stays on: no need to wait, and nothing to see
        for name in ("rename", "replace", "unlink", "mkdir", "rmdir"):
            patch.setattr(os, name, disk.guarded(getattr(os, name)))
        yield disk
