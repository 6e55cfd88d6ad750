"""The public conformance check of partitioners, which also runs on your own classes."""

from __future__ import annotations

import tempfile
from dataclasses import fields, is_dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aria.interfaces import Partition, Partitioner
from aria.partitioners.describe import describe
from aria.partitioners.fitted import Fitted
from aria.partitioners.io import digest, load, save
from aria.pool import Pool

FALSE_ALARM = 1e-6
"""Probability that a correct partitioner fails a chi-square check; with fixed seeds it fails always or never."""


def example_pool(weighted: bool = False) -> Pool:
    """640 conditions with texts, 8-dimensional embeddings in six clumps, and the columns "label" and "style"."""
    rng = np.random.default_rng(7)
    clump = rng.integers(6, size=640)
    embeddings = (3 * rng.standard_normal((6, 8))[clump] + rng.standard_normal((640, 8))).astype(np.float32)
    style = [("ink", "photo", "oil", "3d")[i] for i in rng.integers(4, size=640)]
    label = rng.integers(5, size=640).tolist()
    weight = torch.from_numpy(rng.choice([0.0, 0.5, 1.0, 2.0], 640, p=[0.1, 0.3, 0.3, 0.3])) if weighted else None
    texts = [f"{s} of thing {i}" for i, s in zip(label, style)]
    return Pool(embeddings=embeddings, texts=texts, columns={"label": label, "style": style}, weight=weight)


def check_partitioner(partitioner: Partitioner, pool: Pool | None = None) -> None:
    """Raise an ``AssertionError`` with one sentence about the first violation, or return.

    Without a pool, the check runs on the built-in one, with and without weights. Files and descriptions are
    checked only for partitions derived from :class:`~aria.partitioners.Fitted`.

    >>> from aria.partitioners import Labels
    >>> check_partitioner(Labels("style"))
    >>> check_partitioner(Labels("style"), Pool(columns={"style": [1, 1, 2]}))
    """
    if not isinstance(partitioner, Partitioner):
        raise AssertionError(f"{partitioner!r} is not an instance of aria.Partitioner: pass an instance, not a class")
    name = type(partitioner).__name__
    _frozen(partitioner, name)
    for one in (pool,) if pool is not None else (example_pool(), example_pool(weighted=True)):
        before = _snapshot(one)
        partition = partitioner.fit(one)
        _masses(partition, name)
        _fit_repeats(partition, partitioner.fit(one), name)
        _rule_matches_table(partition, one, name)
        _draws(partition, one, name)
        if isinstance(partition, Fitted):
            _file(partition, name)
            _description(partition, one, name)
        _require(_same(before, _snapshot(one)), name, "changes the pool it is fitted on")


def _require(holds: bool, name: str, wrong: str) -> None:
    if not holds:
        raise AssertionError(f"{name} {wrong}")


def _frozen(partitioner: Partitioner, name: str) -> None:
    frozen = is_dataclass(partitioner) and partitioner.__dataclass_params__.frozen
    _require(frozen, name, "must be a frozen dataclass: its fields are hyper-parameters, not state")
    _require(replace(partitioner) == partitioner, name, "does not equal a copy of itself")  # type: ignore[type-var]


def _masses(partition: Partition, name: str) -> None:
    mass = partition.mass
    _require(mass.dtype == torch.float64 and mass.ndim == 1, name, f"must have a float64 mass (K,), got {mass.dtype}")
    _require(partition.num_regions == len(mass), name, f"has {len(mass)} masses, num_regions={partition.num_regions}")
    _require(bool((mass >= 0).all()), name, "has a region of negative mass")
    _require(abs(float(mass.sum()) - 1) < 1e-9, name, f"has masses that sum to {float(mass.sum())}, not to 1")


def _fit_repeats(partition: Partition, again: Partition, name: str) -> None:
    _require(digest(partition) == digest(again), name, "divides the same pool differently when it is fitted again")


def _rule_matches_table(partition: Partition, pool: Pool, name: str) -> None:
    drawn = partition.draw(_regions(partition, len(pool)), torch.Generator().manual_seed(3))
    coords = {key: value for key, value in drawn.items() if key != "index"}
    region = partition.assign(pool, **coords)
    _require(region.dtype == torch.int64 and region.shape == (len(pool),), name, "must assign (N,) int64 regions")
    inside = bool(((region >= 0) & (region < partition.num_regions)).all())
    _require(inside, name, f"assigns regions outside 0 to {partition.num_regions - 1}")
    located = partition.locate(torch.arange(len(pool)), **coords)
    _require(torch.equal(region, located), name, "locates conditions elsewhere than it assigns")
    if not coords:
        mass = torch.bincount(region, weights=_target(pool), minlength=partition.num_regions)
        right = torch.allclose(mass, partition.mass, atol=1e-12)
        _require(right, name, "has masses that differ from the weights of its conditions")


def _draws(partition: Partition, pool: Pool, name: str) -> None:
    share = _target(pool)
    region = _regions(partition, min(int(max(20 * len(pool), 5 / float(share[share > 0].min()))), 1_000_000))
    ambient = torch.get_rng_state()
    drawn = partition.draw(region, torch.Generator().manual_seed(1))
    again = partition.draw(region, torch.Generator().manual_seed(1))
    _require(torch.equal(ambient, torch.get_rng_state()), name, "uses the global random number generator")
    _require(_same(drawn, again), name, "draws differently from the same generator")
    index, coords = drawn["index"], {key: value for key, value in drawn.items() if key != "index"}
    _require(index.dtype == torch.int64 and index.shape == region.shape, name, "must draw a (B,) int64 index")
    _require(torch.equal(partition.locate(index, **coords), region), name, "draws outside the requested region")
    count, expected = torch.bincount(index, minlength=len(pool)).double(), share * len(region)
    _require(not bool(count[share == 0].any()), name, "draws a condition of weight zero")
    common = expected >= 5
    count = torch.cat([count[common], count[~common].sum().view(1)])
    expected = torch.cat([expected[common], expected[~common].sum().view(1)])
    held = expected > 0
    statistic = float(((count - expected)[held] ** 2 / expected[held]).sum())
    bound = chi_square_bound(int(held.sum()) - 1)
    _require(statistic <= bound, name, f"does not draw by pool weight: chi-square {statistic:.0f} above {bound:.0f}")


def _file(partition: Fitted, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save(partition, f"{folder}/partition.safetensors")
        loaded = load(f"{folder}/partition.safetensors")
    same = digest(loaded) == digest(partition) and torch.equal(loaded.mass, partition.mass)
    _require(same, name, "is not the same after it was saved and loaded")
    region = _regions(partition, 100)
    first, second = (one.draw(region, torch.Generator().manual_seed(2)) for one in (partition, loaded))
    _require(_same(first, second), name, "draws differently after it was saved and loaded")


def _description(partition: Fitted, pool: Pool, name: str) -> None:
    summaries = describe(partition, pool)
    each = [one.region for one in summaries] == list(range(partition.num_regions))
    _require(each, name, "does not describe each region once")
    _require(len({one.name for one in summaries}) == len(summaries), name, "gives two regions the same name")


def _regions(partition: Partition, size: int) -> Tensor:
    """(B,) regions drawn by mass."""
    return torch.multinomial(partition.mass, size, replacement=True, generator=torch.Generator().manual_seed(0))


def _target(pool: Pool) -> Tensor:
    """(N,) the target distribution."""
    weight = torch.ones(len(pool), dtype=torch.float64) if pool.weight is None else pool.weight
    return weight / weight.sum()


def chi_square_bound(freedom: int, false_alarm: float = FALSE_ALARM) -> float:
    r"""The value that a chi-square statistic exceeds with probability ``false_alarm`` (Wilson and Hilferty 1931):

    .. math:: n \left(1 - \tfrac{2}{9n} + z \sqrt{\tfrac{2}{9n}}\right)^3 .

    >>> round(chi_square_bound(239))
    358
    """
    spread = 2 / (9 * max(freedom, 1))
    return float(max(freedom, 1) * (1 - spread + NormalDist().inv_cdf(1 - false_alarm) * spread**0.5) ** 3)


def _snapshot(pool: Pool) -> dict[str, Any]:
    """A copy of everything in a pool."""
    values = {item.name: getattr(pool, item.name) for item in fields(pool) if getattr(pool, item.name) is not None}
    values |= {f"column {key}": value for key, value in values.pop("columns").items()}
    return {key: value.clone() if isinstance(value, Tensor) else np.array(value) for key, value in values.items()}


def _same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[key]) if isinstance(value, Tensor) else np.array_equal(value, second[key])
        for key, value in first.items()
    )
