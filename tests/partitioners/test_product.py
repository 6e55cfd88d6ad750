"""Products: pairs of regions, whatever the two parts cover."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aria.interfaces import Partition, Partitioner
from aria.partitioners import Bins, KMeans, Labels, OneRegion, Product
from aria.partitioners.conformance import chi_square_bound
from aria.pool import Pool

pairs = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.sampled_from([0.0, 1.0, 2.5])), min_size=1)


@given(pairs)
def test_a_joint_mass_is_the_weight_of_the_pairs(rows: list[tuple[str, int, float]]) -> None:
    rows = [*rows, ("a", 0, 1.0)]
    letters, numbers, weights = (list(part) for part in zip(*rows))
    pool = Pool(columns={"letter": letters, "number": numbers}, weight=torch.tensor(weights))
    partition = Product(Labels("letter"), Labels("number")).fit(pool)
    count: Counter[tuple[str, int]] = Counter()
    for letter, number, weight in rows:
        count[letter, number] += weight
    order = [(a, b) for a in sorted(set(letters)) for b in sorted(set(numbers))]
    expected = torch.tensor([count[pair] / sum(weights) for pair in order], dtype=torch.float64)
    torch.testing.assert_close(partition.mass, expected)
    assert partition.locate(torch.arange(len(rows))).tolist() == [order.index((a, b)) for a, b, _ in rows]


def test_conditions_times_a_coordinate_multiplies_masses(pool: Pool) -> None:
    styles, steps = Labels("style"), Bins("timestep", edges=(0, 100, 1000))
    partition = Product(styles, steps).fit(pool)
    torch.testing.assert_close(partition.mass, torch.outer(styles.fit(pool).mass, steps.fit(pool).mass).flatten())
    torch.testing.assert_close(
        Product(steps, styles).fit(pool).mass, torch.outer(steps.fit(pool).mass, styles.fit(pool).mass).flatten()
    )


def test_a_pair_that_nobody_is_in_is_empty() -> None:
    pool = Pool(columns={"a": [0, 1], "b": [0, 1]})
    partition = Product(Labels("a"), Labels("b")).fit(pool)
    assert partition.mass.tolist() == [0.5, 0.0, 0.0, 0.5]
    with pytest.raises(ValueError, match="region 2 has mass 0"):
        partition.draw(torch.tensor([2]))


@pytest.mark.parametrize(
    "partitioner",
    [
        Product(Product(Labels("style"), Bins()), KMeans(regions=4)),
        Product(Product(Labels("label"), Bins("guidance", 1.0, 2.0, 3)), Product(Bins(), Labels("style"))),
        Product(OneRegion(), Product(Bins(), Bins("log_snr", -8.0, 8.0, 4))),
    ],
    ids=str,
)
def test_products_nest_in_any_order(partitioner: Partitioner, pool: Pool) -> None:
    """Both parts may divide conditions and draw coordinates: the regions drawn are the regions located."""
    partition = partitioner.fit(pool)
    region = torch.multinomial(partition.mass, 2000, True, generator=torch.Generator().manual_seed(0))
    drawn = partition.draw(region, torch.Generator().manual_seed(1))
    assert torch.equal(partition.locate(**drawn), region)
    assert float(partition.mass.sum()) == pytest.approx(1, abs=1e-12)


def test_conditions_and_coordinates_are_drawn_independently() -> None:
    partition = Product(Bins("guidance", 0.0, 2.0, 1), Bins("log_snr", 0.0, 2.0, 1)).fit(Pool(size=2))
    drawn = partition.draw(torch.zeros(8000, dtype=torch.int64), torch.Generator().manual_seed(0))
    cell = drawn["index"] * 4 + drawn["guidance"].long() * 2 + drawn["log_snr"].long()
    count = torch.bincount(cell, minlength=8).double()
    assert float(((count - 1000) ** 2 / 1000).sum()) < chi_square_bound(7)  # false alarm 1e-6


def test_parts_see_only_their_own_coordinate(pool: Pool) -> None:
    partition = Product(Bins("guidance", 0.0, 1.0, 2), Bins("timestep", 0, 10, 2)).fit(pool)
    coords = {"guidance": torch.tensor([0.9, 0.1]), "timestep": torch.tensor([3, 7])}
    assert partition.locate(torch.tensor([0, 0]), **coords).tolist() == [2, 1]
    assert partition.coordinates == ("guidance", "timestep")


def test_one_region_is_the_unit(pool: Pool) -> None:
    styles = Labels("style").fit(pool)
    for partition in (Product(OneRegion(), Labels("style")).fit(pool), Product(Labels("style"), OneRegion()).fit(pool)):
        torch.testing.assert_close(partition.mass, styles.mass)
        assert torch.equal(partition.assign(pool), styles.assign(pool))


def test_a_coordinate_may_appear_once(pool: Pool) -> None:
    with pytest.raises(ValueError, match="product: both parts draw 'timestep'"):
        Product(Bins(), Product(Labels("style"), Bins("timestep", 0, 10, 2))).fit(pool)


def test_parts_are_partitioners() -> None:
    with pytest.raises(ValueError, match=r"product: second must be a partitioner such as .*, got 'bins'"):
        Product(Labels("style"), "bins")  # type: ignore[arg-type]


def test_parts_that_cannot_be_combined_are_named(pool: Pool) -> None:
    class Odd(Partitioner):
        def fit(self, pool: Pool) -> Partition:
            return object()  # type: ignore[return-value]

    with pytest.raises(ValueError, match=r"product: object must derive from aria\.partitioners\.Fitted"):
        Product(Odd(), Bins()).fit(pool)
