"""Checks of weight files before they are loaded: a download that was interrupted is refused by the file's name."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from aria.regular import regular

SUFFIX = ".safetensors"
LONGEST = 100_000_000
"""Bytes of a header; the library refuses longer ones too."""
POINTER = b"version https://git-lfs"
"""How a file begins that Git LFS has left in the place of the weights."""


def check_weights(folder: Path, variant: str | None = None) -> None:
    """Refuse a safetensors file in ``folder`` whose size is not what its header says; other variants are not read."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if _variant(path) in (None, variant):
            check_file(path)


def check_file(path: Path) -> None:
    """Refuse a safetensors file that is truncated or damaged."""
    size = regular(path).stat().st_size
    with path.open("rb") as file:
        start = file.read(len(POINTER))
        if start == POINTER:
            raise ValueError(f"{path} is a pointer of Git LFS, not the weights: run 'git lfs pull' in its repository")
        if size < 8 or 8 + (length := struct.unpack("<Q", start[:8])[0]) > size:
            raise ValueError(f"{path} is truncated or no safetensors file: its {size:,} bytes end within the header")
        if length > LONGEST:
            raise ValueError(f"{path} is no safetensors file: its header would be {length:,} bytes")
        file.seek(8)
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            expected = 8 + length + max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} is damaged: its header cannot be read: {error}") from None
    if size != expected:
        what = "truncated" if size < expected else "damaged"
        raise ValueError(f"{path} is {what}: its header says {expected:,} bytes, the file has {size:,}")


def _variant(path: Path) -> str | None:
    """``fp16`` of model.fp16.safetensors and of model.fp16-00001-of-00002.safetensors; None of the plain weights."""
    _, dot, variant = path.name.removesuffix(SUFFIX).partition(".")
    return variant.split("-")[0] if dot else None
