"""The null partition."""

from __future__ import annotations

import torch

from aria.partitioners import OneRegion
from aria.pool import Pool


def test_it_draws_the_pool_by_weight() -> None:
    weight = torch.tensor([0.0, 1.0, 3.0])
    partition = OneRegion().fit(Pool(weight=weight))
    index = partition.draw(torch.zeros(40_000, dtype=torch.int64), torch.Generator().manual_seed(0))["index"]
    count = torch.bincount(index, minlength=3)
    # 5 standard deviations of Binomial(40000, 3/4): a false alarm in 2e6
    assert count[0] == 0 and abs(int(count[2]) - 30_000) < 5 * (40_000 * 3 / 16) ** 0.5
    assert partition.mass.tolist() == [1.0] and partition.names() == ["everything"]


def test_it_assigns_any_pool() -> None:
    assert OneRegion().fit(Pool(size=2)).assign(Pool(size=4)).tolist() == [0, 0, 0, 0]
