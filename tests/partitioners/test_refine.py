"""Refinement: finds what was planted, leaves the rest alone, keeps numbers stable."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from scipy.stats import ttest_ind

from aria.partitioners import Bins, Labels, OneRegion, Product, digest, load, refine, save
from aria.partitioners.refine import welch
from aria.pool import Pool

EVERYONE = torch.arange(1200)


def planted(seed: int = 0) -> tuple[Pool, torch.Tensor]:
    """Three labels of 400, each of two clumps; ``side`` (N,) says which clump."""
    generator = torch.Generator().manual_seed(seed)
    side = (torch.rand(1200, generator=generator) < 0.3).long()
    label = torch.arange(1200) % 3
    x = torch.randn(1200, 5, generator=generator)
    x[:, 0] += 8 * side
    x[:, 1] += 20 * label
    return Pool(embeddings=x, columns={"label": label.tolist()}), side


def noise(scale: float = 1.0, seed: int = 1, size: int = 1200) -> torch.Tensor:
    return scale * torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
def test_it_splits_where_the_halves_differ_and_nowhere_else(seed: int) -> None:
    pool, side = planted(seed)
    base = Labels().fit(pool)
    values = noise() + 2.0 * side * (EVERYONE % 3 == 1)
    partition, parent = refine(base, pool, EVERYONE, values)
    assert parent.tolist() == [0, 1, 2, 1]
    old, new = base.locate(EVERYONE), partition.locate(EVERYONE)
    assert torch.equal(parent[new], old)
    assert [set(side[new == k].tolist()) for k in (1, 3)] == [{0}, {1}]  # the larger half keeps the number
    assert partition.names() == ["label=0", "label=1.0", "label=2", "label=1.1"]
    assert float(partition.mass.sum()) == pytest.approx(1)


def test_homogeneous_regions_are_split_no_more_often_than_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 calls at 5 %: Binomial(100, 0.05) exceeds 17 with probability 2e-6, and is 0 with probability 6e-3."""
    module, halves = importlib.import_module("aria.partitioners.refine"), {}
    halve = module._halve

    def once(members: Any, region: int, *rest: Any) -> Any:
        """The halves of a region: they do not depend on the values, which alone differ between the calls."""
        if region not in halves:
            halves[region] = halve(members, region, *rest)
        return halves[region]

    monkeypatch.setattr(module, "_halve", once)
    pool, _ = planted()
    base = Labels().fit(pool)
    alarms = sum(refine(base, pool, EVERYONE, noise(seed=s), false_alarm=0.05)[0] is not base for s in range(100))
    assert 0 < alarms <= 17


def test_more_regions_tested_ask_for_more_evidence() -> None:
    """A difference of probability 0.007 is enough at 1 % for one region, and not for one of three."""
    pool, side = planted()
    one = EVERYONE[EVERYONE % 3 == 1]
    for effect in torch.linspace(0, 1, 200).tolist():
        values = noise() + effect * side
        if welch(values[one][side[one] == 0], values[one][side[one] == 1]) < 0.007:
            break
    values = torch.where(EVERYONE % 3 == 1, values, 1.0)
    assert refine(Labels().fit(pool), pool, one, values[one])[1].tolist() == [0, 1, 2, 1]
    assert refine(Labels().fit(pool), pool, EVERYONE, values)[1].tolist() == [0, 1, 2]


def test_without_a_split_partition_and_parent_stay() -> None:
    pool, _ = planted()
    base = Labels().fit(pool)
    partition, parent = refine(base, pool, EVERYONE, torch.full((1200,), 0.1))
    assert digest(partition) == digest(base) and parent.tolist() == [0, 1, 2]


def test_state_follows_its_region() -> None:
    pool, side = planted()
    partition, parent = refine(Labels().fit(pool), pool, EVERYONE, noise() + 3 * side)
    state = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert partition.num_regions == 6
    assert state[..., parent].tolist() == [[1, 2, 3, 1, 2, 3], [4, 5, 6, 4, 5, 6]]


def test_refined_partitions_are_refined_again_assign_and_survive_a_file(tmp_path: Any) -> None:
    pool, side = planted()
    steps = noise(0.1) + 4.0 * side + pool.embeddings[:, 1].double()
    partition, rounds = OneRegion().fit(pool), 0
    for _ in range(5):
        finer, parent = refine(partition, pool, EVERYONE, steps)
        assert parent[: partition.num_regions].tolist() == list(range(partition.num_regions))
        assert torch.equal(parent[finer.locate(EVERYONE)], partition.locate(EVERYONE))
        rounds += finer is not partition
        partition = finer
    assert rounds >= 3 and partition.num_regions >= 6
    save(partition, tmp_path / "refined.safetensors")
    loaded = load(tmp_path / "refined.safetensors")
    assert digest(loaded) == digest(partition)
    assert torch.equal(loaded.assign(pool), partition.locate(EVERYONE))
    new, _ = planted(seed=3)
    assert torch.equal(loaded.assign(new), partition.assign(new))
    assert len(torch.unique(partition.assign(new))) >= 6
    assert len(set(partition.names())) == partition.num_regions


def test_a_condition_counts_once_however_often_it_was_seen() -> None:
    pool, side = planted()
    few = torch.arange(0, 1200, 20)
    values = noise(1.0) + 0.1 * side
    once = refine(OneRegion().fit(pool), pool, few, values[few])
    often = refine(OneRegion().fit(pool), pool, few.repeat(50), values[few].repeat(50))
    assert digest(once[0]) == digest(often[0]) and once[0].num_regions == 1
    unequal = few.repeat_interleave(1 + 9 * (few % 3 == 0))
    assert refine(OneRegion().fit(pool), pool, unequal, 5 + values[unequal])[0].num_regions == 1


def test_limits_are_kept() -> None:
    pool, side = planted()
    values = noise(0.5) + (1.0 + EVERYONE % 3) * side
    base = Labels().fit(pool)
    assert refine(base, pool, EVERYONE, values)[0].num_regions == 6
    _, parent = refine(base, pool, EVERYONE, values, max_regions=4)
    assert parent.tolist() == [0, 1, 2, 2]  # the most significant
    assert refine(base, pool, EVERYONE, values, max_regions=2)[0].num_regions == 3
    assert refine(base, pool, EVERYONE, values, min_size=201)[0].num_regions == 3
    assert refine(base, pool, EVERYONE[:150], values[:150], min_seen=26)[0].num_regions == 3


def test_regions_of_one_embedding_are_left_alone() -> None:
    pool = Pool(embeddings=torch.ones(200, 3))
    assert refine(OneRegion().fit(pool), pool, torch.arange(200), noise(size=200))[0].num_regions == 1


def test_nearest_prompts_are_near_the_centroid_of_the_half() -> None:
    pool, _ = planted()
    partition, _ = refine(OneRegion().fit(pool), pool, EVERYONE, noise(0.1) + EVERYONE % 3)
    region, far = partition.locate(EVERYONE), partition.remoteness(pool)
    for k, centroid in ((0, partition.left[0]), (1, partition.right[0])):
        expected = ((pool.embeddings - centroid) ** 2).sum(1)
        torch.testing.assert_close(far[region == k], expected[region == k])


@pytest.mark.parametrize("seed", range(5))
def test_welch_is_scipys(seed: int) -> None:
    first, second = noise(2.0, seed, 20), noise(1.0, seed + 50, 35) + 0.5
    assert welch(first, second) == pytest.approx(ttest_ind(first, second, equal_var=False).pvalue, rel=1e-9)


def test_welch_of_constants() -> None:
    assert welch(torch.full((9,), 0.1), torch.full((7,), 0.1)) == pytest.approx(1)
    assert welch(torch.zeros(9), torch.ones(9)) < 1e-12


@pytest.mark.parametrize(
    "index, values, message",
    [
        ([0, 1], [1.0], r"must be \(M,\) each, got \(2,\) and \(1,\)"),
        ([0, 1200], [1.0, 1.0], "index must be from 0 to 1199, got 0 to 1200"),
        ([-1, 3], [1.0, 1.0], "index must be from 0 to 1199, got -1 to 3"),
        ([0, 3], [1.0, float("nan")], "values must be finite, got nan"),
    ],
)
def test_bad_observations_are_refused(index: list[int], values: list[float], message: str) -> None:
    pool, _ = planted()
    with pytest.raises(ValueError, match=message):
        refine(Labels().fit(pool), pool, torch.tensor(index), torch.tensor(values))


def test_what_cannot_be_refined_is_refused() -> None:
    pool, _ = planted()
    with pytest.raises(ValueError, match="not one over a coordinate; refine it before the product"):
        refine(Product(Labels(), Bins()).fit(pool), pool, EVERYONE, noise())
    with pytest.raises(ValueError, match="needs the fitted pool of 1200 conditions, got one of 3"):
        refine(Labels().fit(pool), Pool(size=3), EVERYONE, noise())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"false_alarm": 0.0}, "false_alarm must be between 0 and 1, got 0.0"),
        ({"min_size": 0}, "min_size must be at least 1, got 0"),
        ({"min_seen": 1}, "min_seen must be at least 2, got 1"),
    ],
)
def test_settings_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    pool, _ = planted()
    with pytest.raises(ValueError, match=f"refine: {message}"):
        refine(Labels().fit(pool), pool, EVERYONE, noise(), **arguments)
