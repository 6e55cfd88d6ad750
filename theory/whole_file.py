"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: str | Path) -> Iterator[Path]:
    """Where to write a file, of the same ending, that takes the place of ``target`` once it is complete.

    What the system refuses meanwhile names ``target``.
    """
    path = Path(target)
    if path.exists() and not path.is_file():  # for root, a rename would replace even /dev/null
        raise ValueError(f"{path} is a folder, a device or a pipe: give a file")
    path = path.resolve() if path.is_symlink() else path
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)
