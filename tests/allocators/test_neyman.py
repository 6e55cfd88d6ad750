"""Neyman's allocation has the smallest variance, and misjudging the moments costs what the theory says and no more."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aria.allocators import Neyman
from aria.interfaces import Estimate

repeatable = settings(derandomize=True, deadline=None, max_examples=200)
K = 4


def vectors(low: float, high: float) -> st.SearchStrategy[Tensor]:
    numbers = st.lists(st.floats(low, high), min_size=K, max_size=K)
    return numbers.map(lambda row: torch.tensor(row, dtype=torch.float64))


def neyman(moment: Tensor, mass: Tensor) -> Tensor:
    weights = Neyman()(Estimate(moment, torch.zeros_like(moment)), mass)
    return weights / weights.sum()


def cost(q: Tensor, moment: Tensor, mass: Tensor) -> float:
    """Second moment of the importance-weighted estimator that draws from ``q``."""
    return float((mass**2 * moment / q).sum())


@repeatable
@given(moment=vectors(0.01, 10), mass=vectors(0.01, 1), other=vectors(0.01, 1))
def test_no_other_allocation_costs_less(moment: Tensor, mass: Tensor, other: Tensor) -> None:
    mass, q = mass / mass.sum(), other / other.sum()
    best = neyman(moment, mass)
    least = float((mass * moment.sqrt()).sum() ** 2)
    assert cost(best, moment, mass) == pytest.approx(least, rel=1e-12)
    assert cost(q, moment, mass) == pytest.approx(least * (1 + float(((best - q) ** 2 / q).sum())), rel=1e-10)


@pytest.mark.parametrize("size", [1e-2, 1e-4])
def test_every_small_step_away_costs_more(size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    moment, mass = (torch.rand(K, generator=generator, dtype=torch.float64) + 0.1 for _ in range(2))
    mass = mass / mass.sum()
    best = neyman(moment, mass)
    for _ in range(100):
        step = torch.randn(K, generator=generator, dtype=torch.float64)
        nearby = best + size * (step - step.mean())
        assert cost(nearby / nearby.sum(), moment, mass) > cost(best, moment, mass)


@repeatable
@given(moment=vectors(0.01, 10), mass=vectors(0.01, 1), sides=vectors(-1, 1), eps=st.floats(0.01, 0.95))
def test_relative_errors_cost_their_square(moment: Tensor, mass: Tensor, sides: Tensor, eps: float) -> None:
    mass = mass / mass.sum()
    guess = moment * (1 + eps * sides) ** 2  # right within a factor 1 ± eps in the root
    least = float((mass * moment.sqrt()).sum() ** 2)
    assert cost(neyman(guess, mass), moment, mass) <= least / (1 - eps**2) * (1 + 1e-12)


@pytest.mark.parametrize("eps", [0.05, 0.4, 0.9])
def test_the_cost_of_errors_is_attained_with_half_the_mass_at_each_end(eps: float) -> None:
    moment, mass = torch.ones(2, dtype=torch.float64), torch.full((2,), 0.5, dtype=torch.float64)
    guess = torch.tensor([(1 - eps) ** 2, (1 + eps) ** 2], dtype=torch.float64)
    bound = 1 / (1 - eps**2)
    assert bound * (1 - 1e-9) <= cost(neyman(guess, mass), moment, mass) <= bound * (1 + 1e-12)
