"""The regions of a run: fitted to its pool, or read from a file of ``aria partition``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from aria import files, partitioners, registry
from aria.distill.data.prompts import Texts
from aria.distill.settings.choices import AUTO, PARTITION_FILE
from aria.fields import TEXT, WHOLE
from aria.fields import check as check_fields
from aria.partitioners.fitted import Fitted
from aria.pool import Pool
from aria.regular import read_object
from aria.run_log import PARTITION

FILE, PROMPTS = PARTITION, "partition.json"
"""The regions in the folder of a run, and the digest of the prompts that they divide."""
PER_REGION, MOST = 8, 256
"""``auto`` is k-means with one region for every ``PER_REGION`` conditions, and at most ``MOST`` regions."""
STRAY = 0.01
"""Share of conditions that may be assigned to another region than before, since rounding decides near borders."""


def check(setting: str) -> None:
    """Refuse a setting that names neither a partitioner nor a partition file."""
    if setting.endswith(PARTITION_FILE):
        partitioners.load(setting)
    elif setting != AUTO:
        registry.partitioner(setting)


def coordinates(setting: str) -> tuple[str, ...]:
    """The coordinates by which regions differ besides conditions: ``"timestep"`` or ``"guidance"``.

    >>> coordinates("product(labels('style'), bins('timestep'))"), coordinates("auto")
    (('timestep',), ())
    """
    if setting.endswith(PARTITION_FILE):
        return partitioners.load(setting).coordinates
    return () if setting == AUTO else registry.partitioner(setting).coordinates


def spec(setting: str, conditions: int, *, seed: int = 0) -> str:
    """The spec of the partitioner that a setting selects, given the number of conditions.

    >>> spec("auto", 4000), spec("auto", 5), spec("labels('style')", 5)
    ('kmeans(256, seed=0)', 'one_region', "labels('style')")
    """
    if setting != AUTO:
        return setting
    count = min(MOST, conditions // PER_REGION)
    return f"kmeans({count}, seed={seed})" if count > 1 else "one_region"


def described(setting: str, conditions: int, *, seed: int = 0) -> str:
    """The setting as the summary shows it, with the spec that ``auto`` selects.

    >>> described("auto", 4000)
    'auto = kmeans(256, seed=0)'
    """
    chosen = spec(setting, conditions, seed=seed)
    return setting if chosen == setting else f"{setting} = {chosen}"


def divide(setting: str, pool: Pool, *, target: str = "pool", seed: int = 0) -> Fitted:
    """The pool's regions, by a spec, by ``auto``, or from a file. Their masses are what training aims at: the weights
    of the pool's prompts, those of all prompts alike (``"conditions"``), or those of all regions alike (``"regions"``).
    """
    if target == "conditions":
        pool = replace(pool, weight=None)
    if setting.endswith(PARTITION_FILE):
        partition = _read(setting, pool)
    else:
        partition = registry.partitioner(spec(setting, len(pool), seed=seed)).fit(pool)  # type: ignore[assignment]  # saving refuses any other partition
    return _even(partition) if target == "regions" else partition


def _even(partition: Fitted) -> Fitted:
    """The same regions, all of the same mass but for the shares of their bins; prompts keep their shares of a region.
    Empty regions stay empty."""
    members = partition.members
    mass = members.mass[members.row.long()]
    weight = torch.ones_like(mass) if members.weight is None else members.weight
    even = torch.where(mass > 0, weight / mass.clamp(min=torch.finfo(mass.dtype).tiny), 0.0)
    return partition.weighted(even)


def save_prompts(folder: Path, texts: Texts) -> None:
    """Keep in a run's folder which prompts its regions divide."""
    files.write_json(folder / PROMPTS, {"prompts": len(texts), "texts": texts.digest()})


def check_prompts(folder: Path, texts: Texts) -> None:
    """Refuse prompts other than those that the regions of the run in ``folder`` divide."""
    path = folder / PROMPTS
    if not path.is_file():
        raise ValueError(f"{folder} was written by an earlier version of ARIA: it has no {PROMPTS}")
    made = check_fields(str(path), read_object(path), {"prompts": WHOLE, "texts": TEXT})
    if len(texts) != made["prompts"]:
        raise ValueError(f"the cache now holds {len(texts)} prompts, the run partitioned {made['prompts']}")
    if texts.digest() != made["texts"]:
        raise ValueError("the cache now holds other prompts than the run partitioned")


def _read(path: str, pool: Pool) -> Fitted:
    """A partition from a file; one that was made for a different pool is refused."""
    partition = partitioners.load(path)
    members = partition.members
    if members.size != len(pool):
        raise ValueError(f"{path} divides {members.size} prompts, the pool has {len(pool)} with captions")
    old, new = members.weight, pool.weight
    if (old is None) != (new is None) or (old is not None and new is not None and not torch.allclose(old, new)):
        raise ValueError(f"{path} was made with different weights than the pool has")
    largest = partition.mass.argmax().expand(len(pool))
    drawn = partition.draw(largest, torch.Generator().manual_seed(0))
    del drawn["index"]  # leaves coordinates such as the timestep, which some partitions need to assign
    moved = partition.cell(partition.assign(pool, **drawn)) != members.row
    if float(moved.double().mean()) > STRAY:
        where = int(moved.long().argmax())
        text = f" {pool.texts[where]!r}" if pool.texts is not None else ""
        raise ValueError(f"{path} was made from other prompts: prompt {where}{text} would be in another region")
    return partition
