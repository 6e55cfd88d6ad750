"""What all fitted partitions share: drawing, refusing, moving, kinds."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from aria.interfaces import Partitioner
from aria.partitioners import Bins, KMeans, Labels, OneRegion, Product, refine
from aria.partitioners.fitted import Fitted
from aria.partitioners.tables import Members
from aria.pool import Pool

KINDS = [
    OneRegion(),
    Labels("style"),
    KMeans(regions=5),
    Bins("timestep", 0, 1000, 4),
    Bins("guidance", 1.0, 9.0, 3),
    Product(Labels("style"), Bins()),
    Product(Bins("guidance", 0.0, 1.0, 2), Product(Labels("label"), Bins())),
]


@pytest.mark.parametrize("partitioner", KINDS, ids=str)
def test_a_draw_uses_one_call_of_rand(partitioner: Partitioner, pool: Pool) -> None:
    partition = partitioner.fit(pool)
    assert isinstance(partition, Fitted)
    region = torch.zeros(7, dtype=torch.int64) + int(partition.mass.argmax())
    used, expected = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    partition.draw(region, used)
    torch.rand(1 + len(partition.coordinates), 7, generator=expected, dtype=torch.float64)
    assert torch.equal(used.get_state(), expected.get_state())


@pytest.mark.parametrize("partitioner", KINDS, ids=str)
def test_drawing_and_locating_read_nothing_back_from_a_device(partitioner: Partitioner, pool: Pool) -> None:
    """On the meta device there are no values, so any ``.item()`` or ``bool(tensor)`` raises."""
    partition = partitioner.fit(pool).to("meta")
    drawn = partition.draw(torch.zeros(9, dtype=torch.int64, device="meta"))
    coords = {name: value for name, value in drawn.items() if name != "index"}
    region = partition.locate(drawn["index"], **coords)
    assert region.device.type == "meta" and region.shape == (9,) and region.dtype == torch.int64


def test_reading_back_raises_on_the_meta_device() -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool((torch.zeros(3, device="meta") > 0).any())


def test_a_refined_partition_moves_as_a_whole(pool: Pool) -> None:
    x = torch.as_tensor(pool.embeddings)
    values = x @ torch.linalg.svd(x - x.mean(0)).Vh[0]
    partition, _ = refine(OneRegion().fit(pool), pool, torch.arange(len(pool)), values)
    moved = partition.to("meta")
    assert partition.num_regions == 2
    assert {value.device.type for value in moved.state_dict()[1].values()} == {"meta"}


@pytest.mark.parametrize("region", [-1, 4, 99])
def test_a_region_that_does_not_exist_is_named(region: int, pool: Pool) -> None:
    with pytest.raises(ValueError, match=f"there is no region {region}: regions are 0 to 3"):
        Labels("style").fit(pool).draw(torch.tensor([0, region]))


def test_an_empty_region_is_named() -> None:
    partition = Labels().fit(Pool(columns={"label": ["a", "b"]}, weight=torch.tensor([1.0, 0.0])))
    assert partition.mass.tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="region 1 has mass 0"):
        partition.draw(torch.tensor([0, 1]))


@pytest.mark.parametrize("region", [torch.tensor([True]), torch.tensor([0.0]), torch.tensor([[0]])])
def test_regions_are_a_list_of_integers(region: Tensor, pool: Pool) -> None:
    with pytest.raises(ValueError, match=r"regions must be \(B,\) integers"):
        OneRegion().fit(pool).draw(region)


def test_drawing_nothing_draws_nothing(pool: Pool) -> None:
    drawn = Bins().fit(pool).draw(torch.zeros(0, dtype=torch.int64))
    assert {name: value.shape for name, value in drawn.items()} == {"index": (0,), "timestep": (0,)}


def test_two_kinds_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match="two kinds of partition are called 'labels': LabelPartition and Impostor"):

        @dataclass(frozen=True, eq=False)
        class Impostor(Fitted, kind="labels"):
            def assign(self, pool: Pool, **coords: Tensor) -> Tensor:
                return torch.zeros(len(pool), dtype=torch.int64)


def test_a_subclass_of_one_method_is_a_whole_partition(pool: Pool) -> None:
    @dataclass(frozen=True, eq=False)
    class EvenOdd(Fitted, kind="even-odd"):
        def assign(self, pool: Pool, **coords: Tensor) -> Tensor:
            return torch.arange(len(pool)) % 2

    partition = EvenOdd(Members.build(torch.arange(len(pool)) % 2, 2, pool.weight))
    drawn = partition.draw(torch.tensor([0, 1, 1, 0]), torch.Generator().manual_seed(0))
    assert (drawn["index"] % 2).tolist() == [0, 1, 1, 0]
    assert partition.names() == ["even-odd 0", "even-odd 1"]
