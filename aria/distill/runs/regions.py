"""The regions of a run: fitted to its pool, or read from a file that ``aria partition`` wrote for it."""

from __future__ import annotations

import torch

from aria import partitioners, registry
from aria.distill.settings.choices import AUTO, PARTITION_FILE
from aria.partitioners.fitted import Fitted
from aria.pool import Pool

PER_REGION, MOST = 8, 256
"""``auto`` is k-means with one region per so many conditions, and at most so many regions."""
STRAY = 0.01
"""Share of conditions that may be assigned to another region than before: near a border, rounding decides."""


def check(setting: str) -> None:
    """Refuse a setting that names neither a partitioner nor a file, before anything takes long."""
    if setting.endswith(PARTITION_FILE):
        partitioners.load(setting)
    elif setting != AUTO:
        registry.partitioner(setting)


def coordinates(setting: str) -> tuple[str, ...]:
    """What the regions are divided by besides conditions: ``"timestep"`` or ``"guidance"``.

    >>> coordinates("product(labels('style'), bins('timestep'))"), coordinates("auto")
    (('timestep',), ())
    """
    if setting.endswith(PARTITION_FILE):
        return partitioners.load(setting).coordinates
    return () if setting == AUTO else registry.partitioner(setting).coordinates


def spec(setting: str, conditions: int, *, seed: int = 0) -> str:
    """The partitioner that a setting stands for, given the number of conditions.

    >>> spec("auto", 4000), spec("auto", 5), spec("labels('style')", 5)
    ('kmeans(256, seed=0)', 'one_region', "labels('style')")
    """
    if setting != AUTO:
        return setting
    count = min(MOST, conditions // PER_REGION)
    return f"kmeans({count}, seed={seed})" if count > 1 else "one_region"


def described(setting: str, conditions: int) -> str:
    """The rule for regions, and what ``auto`` chooses.

    >>> described("auto", 4000)
    'auto = kmeans(256, seed=0)'
    """
    chosen = spec(setting, conditions)
    return setting if chosen == setting else f"{setting} = {chosen}"


def divide(setting: str, pool: Pool, *, seed: int = 0) -> Fitted:
    """The pool's regions, by a spec, by ``auto``, or from a file."""
    if setting.endswith(PARTITION_FILE):
        return _read(setting, pool)
    return registry.partitioner(spec(setting, len(pool), seed=seed)).fit(pool)  # type: ignore[return-value]  # saving refuses what is none


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
