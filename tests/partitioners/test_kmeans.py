"""Clusters: repeatable, read in chunks, weighted, and refused by name."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aria.partitioners import KMeans, digest
from aria.partitioners.embeddings import distances, distinct
from aria.pool import Pool


def clumps(size: int = 3000, dimension: int = 6, count: int = 8, seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    middle = 6 * rng.standard_normal((count, dimension))
    return (middle[rng.integers(count, size=size)] + rng.standard_normal((size, dimension))).astype(np.float32)


class Watched:
    """Embeddings that remember the largest number of rows read at once, and whether rows were read forwards."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array, self.ndim, self.shape, self.largest, self.forwards = array, 2, array.shape, 0, True

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: Any) -> Any:
        read = np.arange(len(self.array))[rows]
        self.largest = max(self.largest, len(read))
        self.forwards &= bool((np.diff(read) > 0).all())
        return self.array[rows]


def test_the_same_seed_gives_the_same_regions() -> None:
    pool = Pool(embeddings=clumps())
    for sample in (1000, 3000):
        first, again, other = (KMeans(regions=12, sample=sample, seed=seed).fit(pool) for seed in (3, 3, 4))
        assert digest(first) == digest(again)
        assert digest(first) != digest(other)


def test_well_separated_clumps_are_found() -> None:
    x = np.repeat(np.eye(4, dtype=np.float32) * 100, [10, 20, 30, 40], axis=0) + clumps(100, 4) * 0.01
    partition = KMeans(regions=4).fit(Pool(embeddings=x))
    assert sorted(partition.mass.tolist()) == [0.1, 0.2, 0.3, 0.4]


def test_a_memory_map_gives_what_memory_gives(tmp_path: Path) -> None:
    x = clumps()
    np.save(tmp_path / "x.npy", x)
    settings = KMeans(regions=16, sample=1200, chunk=700)
    in_memory = settings.fit(Pool(embeddings=x))
    mapped = settings.fit(Pool(embeddings=np.load(tmp_path / "x.npy", mmap_mode="r")))
    as_tensor = settings.fit(Pool(embeddings=torch.from_numpy(x)))
    assert digest(in_memory) == digest(mapped) == digest(as_tensor)
    new = clumps(seed=1)
    np.save(tmp_path / "new.npy", new)
    assigned = mapped.assign(Pool(embeddings=np.load(tmp_path / "new.npy", mmap_mode="r")))
    assert torch.equal(assigned, in_memory.assign(Pool(embeddings=new)))


def test_no_more_than_a_chunk_is_ever_read_at_once() -> None:
    x = Watched(clumps())
    partition = KMeans(regions=10, sample=1000, chunk=128).fit(Pool(embeddings=x))
    partition.remoteness(Pool(embeddings=x))
    assert x.largest == 128 and x.forwards


def test_half_precision_tensors_can_be_read() -> None:
    x = torch.from_numpy(clumps(400)).bfloat16()
    partition = KMeans(regions=5).fit(Pool(embeddings=x))
    assert digest(partition) == digest(KMeans(regions=5).fit(Pool(embeddings=x.float())))


def test_every_condition_is_in_the_region_of_the_nearest_centroid() -> None:
    x = clumps()
    partition = KMeans(regions=20).fit(Pool(embeddings=x))
    exact = torch.cdist(torch.from_numpy(x).double(), partition.centroids.double())
    own = exact.gather(1, partition.locate(torch.arange(len(x)))[:, None]).squeeze(1)
    assert float((own - exact.min(1).values).max()) < 1e-4
    torch.testing.assert_close(partition.remoteness(Pool(embeddings=x)).double(), own**2, rtol=1e-4, atol=1e-4)


def test_distances_survive_a_large_common_part() -> None:
    x, shift = torch.from_numpy(clumps(500)), 1e4
    centroids = x[:30]
    wrong = (distances(x + shift, centroids + shift).argmin(1) != distances(x, centroids).argmin(1)).float().mean()
    assert float(wrong) < 0.01  # without the shift by the median centroid, about half of them


def test_the_rule_does_not_depend_on_the_order_of_a_new_pool() -> None:
    partition = KMeans(regions=20, chunk=100).fit(Pool(embeddings=clumps()))
    new, order = clumps(1000, seed=5), np.random.default_rng(0).permutation(1000)
    region = partition.assign(Pool(embeddings=new))
    assert torch.equal(partition.assign(Pool(embeddings=new[order])), region[order])


def test_normalised_regions_do_not_see_length() -> None:
    x = clumps(600)
    partition = KMeans(regions=7, normalise=True).fit(Pool(embeddings=x))
    longer = x * np.random.default_rng(0).uniform(0.5, 2, (600, 1)).astype(np.float32)
    same = partition.assign(Pool(embeddings=longer)) == partition.locate(torch.arange(600))
    assert float(same.float().mean()) > 0.995
    assert float(partition.centroids.norm(dim=1).max()) <= 1 + 1e-6


def test_conditions_of_weight_zero_shape_no_region() -> None:
    x = np.concatenate([clumps(300, 2), clumps(300, 2) + 1000])
    weight = torch.cat([torch.ones(300), torch.zeros(300)])
    partition = KMeans(regions=6).fit(Pool(embeddings=x, weight=weight))
    assert float(partition.centroids.max()) < 100
    index = partition.draw(partition.locate(torch.arange(300)), torch.Generator().manual_seed(0))["index"]
    assert int(index.max()) < 300


def test_weights_pull_centroids() -> None:
    x = np.array([[0.0], [1.0]] * 50, dtype=np.float32)
    weight = torch.tensor([1.0, 9.0] * 50)
    centroid = KMeans(regions=1).fit(Pool(embeddings=x, weight=weight)).centroids.item()
    assert abs(centroid - 0.9) < 0.05


def test_a_region_that_nobody_is_in_has_mass_zero() -> None:
    pool = Pool(embeddings=clumps(50))
    partition = KMeans(regions=3).fit(pool)
    far = torch.cat([partition.centroids, torch.full((1, 6), 1e6)])
    members = type(partition.members).build(partition.members.row, 4)
    wider = type(partition)(members, far, torch.zeros(4), False, 100)
    assert wider.mass[3] == 0 and torch.equal(wider.assign(pool), partition.assign(pool))


@pytest.mark.parametrize("balanced", [0.5, 0.1, 0.03])
def test_balanced_regions_keep_the_bound(balanced: float) -> None:
    pool = Pool(embeddings=clumps())
    loose = KMeans(regions=24).fit(pool)
    partition = KMeans(regions=24, balanced=balanced).fit(pool)
    assert float(loose.mass.max()) * 24 > 1.5
    assert float(partition.mass.max()) * 24 <= 1 + balanced + 1e-9
    assert torch.equal(partition.assign(pool), partition.locate(torch.arange(3000)))


def test_balancing_counts_weight() -> None:
    weight = torch.rand(3000, generator=torch.Generator().manual_seed(0)).double() ** 3
    partition = KMeans(regions=12, balanced=0.1).fit(Pool(embeddings=clumps(), weight=weight))
    assert float(partition.mass.max()) * 12 <= 1.1 + 1e-9


def test_balance_that_cannot_be_is_refused_with_what_can() -> None:
    x = np.concatenate([np.zeros((80, 2)), clumps(20, 2)]).astype(np.float32)
    with pytest.raises(ValueError, match=r"balanced=0.1 was not reached: the largest region stays 3.2\d times"):
        KMeans(regions=4, balanced=0.1).fit(Pool(embeddings=x))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"regions": 0}, "regions must be a whole number of at least 1, got 0"),
        ({"regions": 2.0}, "regions must be a whole number of at least 1, got 2.0"),
        ({"batch": True}, "batch must be a whole number of at least 1, got True"),
        ({"chunk": -1}, "chunk must be a whole number of at least 1, got -1"),
        ({"sample": 10}, "sample must be at least regions=256, got 10"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"balanced": 0}, "balanced must be positive and finite, got 0"),
        ({"balanced": float("nan")}, "balanced must be positive and finite, got nan"),
    ],
)
def test_settings_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"kmeans: {message}"):
        KMeans(**arguments)


def broken(row: int, value: float) -> np.ndarray[Any, Any]:
    x = clumps(40)
    x[row, 2] = value
    return x


@pytest.mark.parametrize(
    "pool, message",
    [
        (Pool(size=9), "needs embeddings, but the pool has none"),
        (Pool(embeddings=clumps(7)), "regions=8 needs as many conditions of positive weight, got 7"),
        (Pool(embeddings=clumps(5).repeat(4, 0)), "regions=8 needs as many distinct embeddings, found 5"),
        (Pool(embeddings=broken(33, np.nan)), "embedding of condition 33 is not"),
        (Pool(embeddings=broken(7, np.inf)), "embedding of condition 7 is not"),
        (Pool(embeddings=clumps(9), weight=torch.tensor([1.0, 1] + 7 * [0])), "positive weight, got 2"),
    ],
)
def test_pools_that_cannot_be_divided_are_refused(pool: Pool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KMeans(regions=8, chunk=5).fit(pool)


def test_a_new_pool_of_another_width_is_refused() -> None:
    partition = KMeans(regions=3).fit(Pool(embeddings=clumps(50)))
    with pytest.raises(ValueError, match="fitted on 6 dimensions, the pool has 5"):
        partition.assign(Pool(embeddings=clumps(50, 5)))


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("sklearn"):
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'aria-distill\[kmeans\]'"):
        KMeans(regions=2).fit(Pool(embeddings=clumps(20)))


def test_distinct_rows_are_counted_exactly() -> None:
    x = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert distinct(x, 10) == 2
    assert distinct(torch.randn(9000, 3, generator=torch.Generator().manual_seed(0)), 10**6) == 9000
    assert distinct(torch.from_numpy(clumps(9000)), 100) >= 100
