"""Partitions in files: tensors in safetensors, settings as JSON in its metadata. Loading runs no code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from aria.interfaces import Partition
from aria.partitioners.fitted import Fitted, rebuild
from aria.regular import regular
from aria.tensor_files import carries_hash, map_tensors, write_tensors

FORMAT = "aria-partition-1"


def save(partition: Partition, path: str | os.PathLike[str]) -> None:
    """Write a partition to one safetensors file, atomically.

    >>> import tempfile
    >>> from aria.partitioners import Labels
    >>> from aria.pool import Pool
    >>> partition = Labels("style").fit(Pool(columns={"style": ["ink", "photo"]}))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(partition, f"{folder}/styles.safetensors")
    ...     load(f"{folder}/styles.safetensors").mass.tolist()
    [0.5, 0.5]
    """
    settings, tensors = partition.state_dict()
    metadata = {"format": FORMAT, "settings": json.dumps(settings), "digest": _digest(settings, tensors)}
    write_tensors(Path(path), {name: [value] for name, value in tensors.items()}, metadata)


def load(path: str | os.PathLike[str]) -> Fitted:
    """Read a partition. A damaged file, another format or an unknown kind raises a ValueError with the reason."""
    tensors, metadata = _read(regular(path))
    if metadata.get("format") != FORMAT:
        found = metadata.get("format")
        raise ValueError(f"{os.fspath(path)}: not a partition: its format is {found!r}, not {FORMAT!r}")
    try:
        settings = json.loads(metadata["settings"])
        if metadata["digest"] != _digest(settings, tensors):
            raise ValueError("its contents do not match its hash, so it was damaged or edited")
        return rebuild(settings, tensors)
    except KeyError as error:
        raise ValueError(f"{os.fspath(path)}: not a complete partition: it lacks {error}") from None
    except (ValueError, TypeError, ArithmeticError, RuntimeError, IndexError, AttributeError) as error:
        raise ValueError(f"{os.fspath(path)}: not a partition: {error}") from None


def _read(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Tensors and metadata. Files of earlier versions carry no hash of their bytes, only that of their content."""
    if carries_hash(path):
        tensors, metadata = map_tensors(path)
        return {name: value.clone() for name, value in tensors.items()}, metadata
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: cannot read a partition from it: {error}") from None


def digest(partition: Partition) -> str:
    """SHA-256 hash (hexadecimal) of kind, settings and tensors: equal for equal partitions, on any device.

    >>> from aria.partitioners import OneRegion
    >>> from aria.pool import Pool
    >>> digest(OneRegion().fit(Pool(size=3)))[:8]
    'cf9eed38'
    """
    settings, tensors = partition.state_dict()
    return _digest(settings, tensors)


def _digest(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    text = json.dumps(settings, sort_keys=True)
    seen = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        seen.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        seen.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return seen.hexdigest()
