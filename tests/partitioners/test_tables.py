"""Drawing from rows: always in the row, never of weight zero, in proportion to the weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aria.partitioners.tables import Members

BELOW_ONE = 1 - 2**-53
weights = st.one_of(st.just(0.0), st.floats(1e-200, 1e200), st.floats(0.5, 2.0))


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[int], list[float]]:
    size = draw(st.integers(1, 30))
    rows = draw(st.lists(st.integers(0, 5), min_size=size, max_size=size))
    heavy = draw(st.lists(weights, min_size=size, max_size=size))
    return rows, [*heavy[:-1], max(heavy[-1], 1.0)]


def grid(size: int) -> torch.Tensor:
    """Evenly spread numbers in [0, 1), in place of random ones."""
    return (torch.arange(size, dtype=torch.float64) + 0.5) / size


@given(tables(), st.booleans(), st.floats(0, BELOW_ONE))
def test_a_draw_is_in_its_row_and_has_weight(table: tuple[list[int], list[float]], weighted: bool, u: float) -> None:
    row, weight = torch.tensor(table[0]), torch.tensor(table[1], dtype=torch.float64)
    members = Members.build(row, 6, weight if weighted else None)
    filled = members.start.diff().nonzero().squeeze(1)
    for chosen in (0.0, u, BELOW_ONE):
        index = members.draw(filled, torch.full(filled.shape, chosen, dtype=torch.float64))
        assert torch.equal(row[index], filled)
        assert not weighted or bool((weight[index] > 0).all())


@given(tables(), st.booleans())
def test_evenly_spread_numbers_draw_in_proportion(table: tuple[list[int], list[float]], weighted: bool) -> None:
    row, weight = torch.tensor(table[0]), torch.tensor(table[1], dtype=torch.float64)
    members = Members.build(row, 6, weight if weighted else None)
    weight = weight if weighted else torch.ones(len(row), dtype=torch.float64)
    for chosen in members.start.diff().nonzero().squeeze(1).tolist():
        share = torch.where(row == chosen, weight, 0.0)
        index = members.draw(torch.full((1000,), chosen), grid(1000))
        count = torch.bincount(index, minlength=len(row))
        assert float((count - 1000 * share / share.sum()).abs().max()) <= 1 + 1e-9


@given(tables(), st.booleans())
def test_mass_is_the_share_of_the_weight(table: tuple[list[int], list[float]], weighted: bool) -> None:
    row, weight = torch.tensor(table[0]), torch.tensor(table[1], dtype=torch.float64)
    members = Members.build(row, 6, weight if weighted else None)
    weight = weight if weighted else torch.ones(len(row), dtype=torch.float64)
    expected = torch.stack([weight[row == k].sum() for k in range(6)]) / weight.sum()
    torch.testing.assert_close(members.mass, expected, rtol=1e-12, atol=0)
    assert torch.equal(members.locate(torch.arange(len(row))), row)


def test_rows_keep_the_order_of_the_pool() -> None:
    row = torch.randint(3, (5000,), generator=torch.Generator().manual_seed(0))
    members = Members.build(row, 3)
    for chosen in range(3):
        order = members.order[members.start[chosen] : members.start[chosen + 1]].tolist()
        assert order == (row == chosen).nonzero().squeeze(1).tolist()


def test_a_light_row_is_drawn_from_as_precisely_as_a_heavy_one() -> None:
    weight = torch.tensor([1e18, 1.0, 3.0])
    members = Members.build(torch.tensor([0, 1, 1]), 2, weight)
    index = members.draw(torch.ones(400, dtype=torch.int64), grid(400))
    assert torch.bincount(index).tolist() == [0, 100, 300]


@pytest.mark.parametrize("row", [[0, 3], [-1, 0], []])
def test_a_row_that_does_not_exist_is_refused(row: list[int]) -> None:
    with pytest.raises(ValueError, match="every condition needs a row from 0 to 2"):
        Members.build(torch.tensor(row), 3)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_condition_that_does_not_exist_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match=f"conditions are 0 to 1, got index {index}"):
        Members.build(torch.tensor([0, 0]), 1).locate(torch.tensor([0, index]))
