"""Tensors in single safetensors files, written in pieces and mapped into memory."""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aria import files

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


def write_tensors(
    path: Path, tensors: Mapping[str, Sequence[Tensor]], metadata: Mapping[str, str] | None = None
) -> int:
    """Write one safetensors file; each tensor is given in pieces along axis 0. Returns the size in bytes.

    The wide types come first, so that every tensor is aligned. The bytes are written here instead of by the
    safetensors package because a full disk then is an ``OSError`` and no second copy of the pieces is made.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata or {})}
    order = sorted(tensors, key=lambda name: (-tensors[name][0].element_size(), name))
    end = 0
    for name in order:
        first, rows = tensors[name][0], sum(len(piece) for piece in tensors[name])
        shape = [rows, *first.shape[1:]]
        begin, end = end, end + math.prod(shape) * first.element_size()
        header[name] = {"dtype": NAMES[first.dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with files.replacing(path) as unfinished, unfinished.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            for piece in tensors[name]:
                file.write(piece.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return 8 + len(text) + end


def map_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, read only where they are touched, and the file's metadata.

    The map is private (copy on write): torch takes no read-only memory without a warning, and a write by mistake then
    never reaches the file.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0] if size >= 8 else size
        if 8 + length > size:
            raise ValueError(f"{path}: no safetensors file, or a torn one: it ends within its header")
        try:
            header = json.loads(file.read(length))
            metadata = dict(header.pop("__metadata__", {}))
            entries = {name: _entry(entry) for name, entry in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"{path}: no safetensors file: its header cannot be read: {error}") from None
        ends = max((end for *_, end in entries.values()), default=0)
        if size != 8 + length + ends:
            raise ValueError(f"{path}: torn: it has {size} bytes, its header says {8 + length + ends}")
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return {
        name: torch.frombuffer(memory, dtype=dtype, count=math.prod(shape), offset=8 + length + begin).view(shape)
        if math.prod(shape)
        else torch.empty(shape, dtype=dtype)
        for name, (dtype, shape, begin, _) in entries.items()
    }, metadata


def _entry(entry: Any) -> tuple[torch.dtype, list[int], int, int]:
    dtype, shape = DTYPES[entry["dtype"]], [int(side) for side in entry["shape"]]
    begin, end = entry["data_offsets"]
    if min([*shape, begin, 0]) < 0 or end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{entry} does not add up")
    return dtype, shape, begin, end
