"""Descriptions: sizes, masses, names and the nearest prompts."""

from __future__ import annotations

import pytest
import torch

from aria.partitioners import Bins, KMeans, Labels, Product, describe, describe_table
from aria.pool import Pool


def test_clusters_are_described_by_the_prompts_nearest_to_their_centroid(pool: Pool) -> None:
    partition = KMeans(regions=5).fit(pool)
    region = partition.locate(torch.arange(len(pool)))
    allowed = torch.ones(len(pool)) if pool.weight is None else pool.weight
    for one in describe(partition, pool, nearest=4):
        distance = ((torch.as_tensor(pool.embeddings) - partition.centroids[one.region]) ** 2).sum(1)
        distance[(region != one.region) | (allowed == 0)] = torch.inf
        assert list(one.nearest) == distance.argsort()[:4].tolist()
        assert one.texts == tuple(pool.texts[i] for i in one.nearest)
        assert one.size == int((region == one.region).sum()) and one.mass == float(partition.mass[one.region])


def test_where_there_is_no_middle_the_heaviest_come_first() -> None:
    pool = Pool(columns={"label": [0, 0, 0, 1]}, weight=torch.tensor([1.0, 3.0, 3.0, 0.0]))
    first, second = describe(Labels().fit(pool), pool, nearest=2)
    assert first.nearest == (1, 2) and first.texts == ()
    assert second.nearest == () and second.size == 1 and second.mass == 0


def test_pairs_are_described_by_their_conditions(pool: Pool) -> None:
    styles = describe(Labels("style").fit(pool), pool)
    pairs = describe(Product(Labels("style"), Bins("timestep", 0, 10, 2)).fit(pool), pool)
    assert [one.nearest for one in pairs] == [one.nearest for one in styles for _ in range(2)]
    assert pairs[1].name == "style=3d × timestep 5…9" and pairs[1].mass == pytest.approx(styles[0].mass / 2)


def test_the_table_has_a_line_a_region_and_keeps_its_width(pool: Pool) -> None:
    lines = describe_table(describe(KMeans(regions=5).fit(pool), pool), width=50).split("\n")
    assert len(lines) == 6 and max(map(len, lines)) == 50
    assert lines[0].split() == ["region", "size", "mass", "name", "nearest"]


def test_another_pool_is_refused(pool: Pool) -> None:
    with pytest.raises(ValueError, match="needs the fitted pool of 640 conditions, got a pool of 3"):
        describe(Labels("style").fit(pool), Pool(size=3))
    with pytest.raises(ValueError, match="nearest must be at least 0, got -1"):
        describe(Labels("style").fit(pool), pool, nearest=-1)
