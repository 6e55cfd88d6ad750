"""How far an error of the estimates moves the allocation: the constants hold and cannot be made smaller."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aria.allocators import Proportional, Softmax
from aria.interfaces import Allocator, Estimate

repeatable = settings(derandomize=True, deadline=None, max_examples=300)
ROUNDING = 1e-12
SHARP = 1 - 1e-9  # a constant smaller by this factor fails where the bound is attained
K = 5


def allocation(allocator: Allocator, value: Tensor, mass: Tensor | None = None) -> Tensor:
    mass = torch.full_like(value, 1 / len(value)) if mass is None else mass
    weights = allocator(Estimate(value, torch.zeros_like(value)), mass)
    return weights / weights.sum()


def variation(left: Tensor, right: Tensor) -> float:
    return float((left - right).abs().sum() / 2)


def vectors(low: float, high: float) -> st.SearchStrategy[Tensor]:
    numbers = st.lists(st.floats(low, high), min_size=K, max_size=K)
    return numbers.map(lambda row: torch.tensor(row, dtype=torch.float64))


def tensor(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def difference_bound(m: Tensor, other: Tensor) -> float:
    return float((m - other).abs().sum() / max(m.sum(), other.sum()))


@repeatable
@given(m=vectors(0, 10), other=vectors(0, 10), mass=vectors(0.01, 1))
def test_proportional_moves_by_at_most_the_relative_difference(m: Tensor, other: Tensor, mass: Tensor) -> None:
    m, other = m + tensor(0.1, 0, 0, 0, 0), other + tensor(0.1, 0, 0, 0, 0)  # a signal in both
    moved = variation(allocation(Proportional(), m, mass), allocation(Proportional(), other, mass))
    assert moved <= difference_bound(mass * m, mass * other) + ROUNDING


@pytest.mark.parametrize("added", [0.01, 1.0, 100.0])
def test_proportional_attains_the_relative_difference(added: float) -> None:
    m, other = tensor(1, 0), tensor(1, added)
    moved = variation(allocation(Proportional(), m), allocation(Proportional(), other))
    assert difference_bound(m, other) * SHARP <= moved <= difference_bound(m, other) + ROUNDING


def ratio_bound(eps: float) -> float:
    return (1 - math.sqrt(1 - eps**2)) / eps


@repeatable
@given(m=vectors(0.01, 10), sides=vectors(-1, 1), eps=st.floats(0.01, 0.99))
def test_proportional_moves_by_about_half_the_relative_error(m: Tensor, sides: Tensor, eps: float) -> None:
    moved = variation(allocation(Proportional(), m), allocation(Proportional(), m * (1 + eps * sides)))
    assert moved <= ratio_bound(eps) + ROUNDING


@pytest.mark.parametrize("eps", [0.01, 0.3, 0.9])
def test_proportional_attains_half_the_relative_error(eps: float) -> None:
    u = (math.sqrt(1 - eps**2) - 1) / eps  # the worst shares are (1+u)/2 and (1-u)/2
    m = tensor((1 + u) / 2, (1 - u) / 2)
    moved = variation(allocation(Proportional(), m), allocation(Proportional(), m * tensor(1 + eps, 1 - eps)))
    assert ratio_bound(eps) * SHARP <= moved <= ratio_bound(eps) + ROUNDING


@repeatable
@given(m=vectors(0, 10), other=vectors(0, 10), mass=vectors(0.01, 1), temperature=st.floats(0.1, 10))
def test_softmax_moves_by_at_most_tanh(m: Tensor, other: Tensor, mass: Tensor, temperature: float) -> None:
    rule = Softmax(temperature=temperature, scale=1.0)
    moved = variation(allocation(rule, m, mass), allocation(rule, other, mass))
    assert moved <= math.tanh(float((m - other).abs().max()) / (2 * temperature)) + ROUNDING


@pytest.mark.parametrize("temperature, scale", [(1.0, 1.0), (0.5, 3.0), (10.0, 0.2)])
def test_softmax_attains_tanh(temperature: float, scale: float) -> None:
    m, other = tensor(0, 1), tensor(1, 0)
    rule = Softmax(temperature=temperature, scale=scale)
    bound = math.tanh(1 / (2 * temperature * scale))
    assert bound * SHARP <= variation(allocation(rule, m), allocation(rule, other)) <= bound + ROUNDING
