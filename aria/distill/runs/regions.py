"""The regions of a run: fitted to its pool, or read from a file that ``aria partition`` wrote for it."""

from __future__ import annotations

from pathlib import Path

import torch

from aria import partitioners, registry
from aria.partitioners.fitted import Fitted
from aria.pool import Pool

ENDING = ".safetensors"
"""What ends so is a file, not a spec."""
AUTO, PER_REGION, MOST = "auto", 8, 256
"""Left to itself a run uses k-means: a region for so many conditions, and at most so many regions."""
STRAY = 0.01
"""The share of conditions that may be assigned elsewhere now: near a border, rounding decides."""


def check(told: str) -> None:
    """Refuse what names neither a partitioner nor a file, before anything takes long."""
    if told.endswith(ENDING):
        if not Path(told).is_file():
            raise ValueError(f"there is no partition file {told}")
        partitioners.load(told)
    elif told != AUTO:
        registry.partitioner(told)


def divide(told: str, pool: Pool, *, seed: int = 0) -> Fitted:
    """The pool's regions as ``told``: a spec, ``auto``, or a file."""
    if told.endswith(ENDING):
        return _read(told, pool)
    if told == AUTO:
        regions = min(MOST, len(pool) // PER_REGION)
        told = f"kmeans({regions}, seed={seed})" if regions > 1 else "one_region"
    return registry.partitioner(told).fit(pool)  # type: ignore[return-value]  # saving refuses what is none


def _read(path: str, pool: Pool) -> Fitted:
    """A partition of this very pool; one of other prompts or weights is refused."""
    partition = partitioners.load(path)
    members = partition.members
    if members.size != len(pool):
        raise ValueError(f"{path} divides {members.size} prompts, the pool has {len(pool)} with captions")
    had, has = members.weight, pool.weight
    if (had is None) != (has is None) or (had is not None and has is not None and not torch.allclose(had, has)):
        raise ValueError(f"{path} was made with other weights than the pool's")
    some = partition.mass.argmax().expand(len(pool))
    drawn = partition.draw(some, torch.Generator().manual_seed(0))
    del drawn["index"]  # what is left are coordinates, for partitions that assign by them as well
    moved = partition.cell(partition.assign(pool, **drawn)) != members.row
    if float(moved.double().mean()) > STRAY:
        where = int(moved.long().argmax())
        text = f" {pool.texts[where]!r}" if pool.texts is not None else ""
        raise ValueError(f"{path} was made from other prompts: prompt {where}{text} would be in another region")
    return partition
