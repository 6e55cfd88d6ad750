"""The regions of a run: fitted to its pool, or read from a file that ``aria partition`` wrote for it."""

from __future__ import annotations

from pathlib import Path

import torch

from aria import partitioners, registry
from aria.distill.settings.choices import AUTO, PARTITION_FILE
from aria.partitioners.fitted import Fitted
from aria.pool import Pool

PER_REGION, MOST = 8, 256
"""``auto`` is k-means with one region for so many conditions, and at most so many regions."""
STRAY = 0.01
"""The share of conditions that may be assigned elsewhere now: near a border, rounding decides."""


def check(told: str) -> None:
    """Refuse what names neither a partitioner nor a file, before anything takes long."""
    if told.endswith(PARTITION_FILE):
        if not Path(told).is_file():
            raise ValueError(f"there is no partition file {told}")
        partitioners.load(told)
    elif told != AUTO:
        registry.partitioner(told)


def divide(told: str, pool: Pool, *, seed: int = 0) -> Fitted:
    """The pool's regions as ``told``: a spec, ``auto``, or a file."""
    if told.endswith(PARTITION_FILE):
        return _read(told, pool)
    return registry.partitioner(spec(told, len(pool), seed=seed)).fit(pool)  # type: ignore[return-value]  # saving refuses what is none


def spec(given: str, size: int, *, seed: int = 0) -> str:
    """The spec of a partitioner, where ``auto`` stands for the one that suits a pool of this size.

    >>> spec("auto", 100), spec("auto", 5), spec("labels('style')", 5)
    ('kmeans(12, seed=0)', 'one_region', "labels('style')")
    """
    if given != AUTO:
        return given
    regions = min(MOST, size // PER_REGION)
    return f"kmeans({regions}, seed={seed})" if regions > 1 else "one_region"


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
