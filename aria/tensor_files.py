"""Tensors in single safetensors files, written in pieces and mapped into memory; each file contains its own hash.

The first entry of the metadata is ``sha256``: the hash of the whole file with zeros in its place. The same tensors and
metadata always make the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from aria import files
from aria.fields import is_whole, short

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The names that safetensors has for what torch can store."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LONGEST = 100 << 20
"""Bytes of a header, as safetensors limits them too."""
MOST_AXES = 64
PIECE = 1 << 20
"""Bytes that are read at a time."""

_BEFORE = b'{"__metadata__": {"sha256": "'
"""How a header begins; the hash follows, in 64 hexadecimal digits."""
_AT = 8 + len(_BEFORE)
_ZEROS = b"0" * 64
_verified: set[tuple[int, int, int, int]] = set()
"""Files whose hash this process has verified: device, inode, size and time of the last change."""


def write_tensors(
    path: Path, tensors: Mapping[str, Sequence[Tensor]], metadata: Mapping[str, str] | None = None
) -> int:
    """Write one safetensors file; each tensor is given in pieces along axis 0. Returns the size in bytes.

    The wide types come first, so that every tensor is aligned. The bytes are written here instead of by the
    safetensors package because a full disk then is an ``OSError`` and no second copy of the pieces is made.
    """
    header: dict[str, Any] = {"__metadata__": {"sha256": _ZEROS.decode(), **(metadata or {})}}
    order = sorted(tensors, key=lambda name: (-tensors[name][0].element_size(), name))
    end = 0
    for name in order:
        first, rows = tensors[name][0], sum(len(piece) for piece in tensors[name])
        shape = [rows, *first.shape[1:]]
        begin, end = end, end + math.prod(shape) * first.element_size()
        header[name] = {"dtype": NAMES[first.dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % 64)
    start = struct.pack("<Q", len(text)) + text
    seen = hashlib.sha256(start)
    with files.replacing(path) as unfinished, unfinished.open("wb") as file:
        file.write(start)
        for name in order:
            for piece in tensors[name]:
                data = piece.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
                seen.update(data)
                file.write(data)
        file.seek(_AT)
        file.write(seen.hexdigest().encode())
    return len(start) + end


def map_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file that :func:`write_tensors` wrote, read only where they are touched, and its metadata.

    The first time a process maps a file it reads it whole, to verify its hash. The map is private (copy on write):
    torch takes no read-only memory without a warning, and a write by mistake then never reaches the file.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0] if size >= 8 else size
        if 8 + length > size:
            raise ValueError(f"{path}: no safetensors file, or a torn one: it ends within its header")
        if length > LONGEST:
            raise ValueError(f"{path}: no safetensors file: its header would be {length:,} bytes")
        try:
            header = json.loads(file.read(length))
            metadata = dict(header.pop("__metadata__", {}))
            entries = {name: _entry(entry) for name, entry in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"{path}: no safetensors file: its header cannot be read: {error}") from None
        ends = max((end for *_, end in entries.values()), default=0)
        if size != 8 + length + ends:
            raise ValueError(f"{path}: torn: it has {size} bytes, its header says {8 + length + ends}")
        _verify(path, file)
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        if len(memory) != size:
            raise ValueError(f"{path} was changed while it was read")
    metadata.pop("sha256", None)  # a key that is there twice is read once
    return {
        name: torch.frombuffer(memory, dtype=dtype, count=math.prod(shape), offset=8 + length + begin).view(shape)
        if math.prod(shape)
        else torch.empty(shape, dtype=dtype)
        for name, (dtype, shape, begin, _) in entries.items()
    }, metadata


def carries_hash(path: Path) -> bool:
    """Whether a safetensors file begins as those do that :func:`write_tensors` writes."""
    with path.open("rb") as file:
        return file.read(_AT)[8:] == _BEFORE


def digest(path: Path) -> str:
    """The hash that a file contains."""
    with path.open("rb") as file:
        file.seek(_AT)
        return file.read(len(_ZEROS)).decode("ascii", "replace")


def _verify(path: Path, file: BinaryIO) -> None:
    """Refuse a file that is not what was written.

    It is read in pieces instead of through its map, in which a bad sector, or a file that another process cuts off
    meanwhile, would end this process with a bus error.
    """
    about = os.fstat(file.fileno())
    version = about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
    if version in _verified:
        return
    file.seek(0)
    start, written = file.read(_AT), file.read(len(_ZEROS))
    seen = hashlib.sha256(start + _ZEROS)
    while piece := file.read(PIECE):
        seen.update(piece)
    if start[8:] != _BEFORE or seen.hexdigest().encode() != written:
        raise ValueError(f"{path} is damaged: its content does not match its hash")
    _verified.add(version)


def _entry(entry: Any) -> tuple[torch.dtype, list[int], int, int]:
    dtype, shape = DTYPES[entry["dtype"]], list(entry["shape"])
    begin, end = entry["data_offsets"]
    if len(shape) > MOST_AXES or not all(map(is_whole, (*shape, begin, end, math.prod(filter(None, shape))))):
        raise ValueError(f"{short(entry)} has a shape or offsets that no file has")
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{short(entry)} does not add up")
    return dtype, shape, begin, end
