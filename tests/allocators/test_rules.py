"""What each rule does on small estimates, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from aria.allocators import (
    UCB,
    Exp3,
    Neyman,
    Oracle,
    Pool,
    Progress,
    Proportional,
    Softmax,
    Thompson,
    TopFraction,
    Uniform,
)
from aria.interfaces import Allocator, Estimate

INF, NAN = torch.inf, torch.nan
MASS = [0.5, 0.3, 0.2]


def tensor(numbers: Any) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def allocation(rule: Allocator, value: list[float], stderr: list[float], mass: list[float] = MASS) -> Tensor:
    weights = rule(Estimate(tensor(value), tensor(stderr)), tensor(mass))
    return weights / weights.sum()


def expect(actual: Tensor, *weights: float) -> None:
    torch.testing.assert_close(actual, tensor(weights) / sum(weights), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "rule, weights",
    [
        (Uniform(), (1, 1, 1)),
        (Pool(), (0.5, 0.3, 0.2)),
        (Pool(base=0.5), (0.5**0.5, 0.3**0.5, 0.2**0.5)),
        (Pool(base=3.0), (0.5**3, 0.3**3, 0.2**3)),
        (Proportional(), (0.5, 0.6, 0.8)),
        (Proportional(power=0.0), (0.5, 0.3, 0.2)),
        (Proportional(power=2.0, base=0.0), (1, 4, 16)),
        (Proportional(power=0.5, base=0.5), (0.5**0.5, 0.6**0.5, 0.8**0.5)),
        (UCB(), (0.5 * 1.3, 0.3 * 2.2, 0.2 * 4.1)),
        (UCB(scale=2.0, power=2.0, base=0.0), (1.6**2, 2.4**2, 4.2**2)),
        (Neyman(), (0.5, 0.3 * 2**0.5, 0.4)),
        (Progress(shrink=2.0), (0.5 * 0.4, 0.3 * 1.6, 0.2 * 3.8)),
        (TopFraction(fraction=0.5), (0, 0.3, 0.2)),
        (Oracle([4.0, 2.0, 1.0]), (2.0, 0.6, 0.2)),
    ],
    ids=repr,
)
def test_the_formula(rule: Allocator, weights: tuple[float, ...]) -> None:
    expect(allocation(rule, [1.0, 2.0, 4.0], [0.3, 0.2, 0.1]), *weights)


@pytest.mark.parametrize("scale", [None, 0.5])
def test_softmax(scale: float | None) -> None:
    value, mass = tensor([1.0, 2.0, 4.0]), tensor(MASS)
    unit = float((mass * value).sum()) if scale is None else scale
    expect(allocation(Softmax(2.0, scale), value.tolist(), [0.0] * 3), *(mass * (value / (2 * unit)).exp()).tolist())


def test_a_large_base_does_not_underflow() -> None:
    expect(allocation(Pool(base=2000.0), [1.0] * 3, [0.0] * 3, [0.4, 0.4, 0.2]), 1, 1, 0)


@pytest.mark.parametrize("value, stderr", [(INF, 0.1), (NAN, 0.1), (-INF, 0.1), (1.0, INF), (1.0, NAN)])
@pytest.mark.parametrize("shrink", [0.0, 1.0])
def test_progress_explores_the_unseen(value: float, stderr: float, shrink: float) -> None:
    rule = Progress(shrink=shrink, base=0.0)
    assert float(allocation(rule, [0.5, value, 0.2], [0.0, stderr, 0.0])[1]) == pytest.approx(0.5 / 1.2)


def test_progress_counts_both_directions_and_ignores_noise() -> None:
    expect(allocation(Progress(base=0.0), [0.5, -0.5, 0.1], [0.1, 0.2, 0.2]), 0.4, 0.3, 0)
    expect(allocation(Progress(), [0.1, -0.1, 0.1], [0.2, 0.2, 0.2]), *MASS)


def test_top_fraction_takes_all_ties_and_the_unseen() -> None:
    rule = TopFraction(fraction=0.25, base=0.0)
    even = [0.25] * 4
    expect(allocation(rule, [1.0, 3.0, 3.0, 2.0], [0.0] * 4, even), 0, 1, 1, 0)
    expect(allocation(rule, [1.0, 3.0, 0.0, 2.0], [0.0, 0.0, INF, 0.0], even), 0, 1, 1, 0)
    expect(allocation(rule, [1.0, 1.0, 1.0, 1.0], [0.0] * 4, even), 1, 1, 1, 1)


@pytest.mark.parametrize("fraction, taken", [(0.001, 1), (0.07, 7), (0.071, 8), (0.29, 29), (1.0, 100)])
def test_top_fraction_counts_regions_that_have_mass(fraction: float, taken: int) -> None:
    value = torch.arange(150, dtype=torch.float64)
    mass = torch.cat([torch.full((100,), 0.01), torch.zeros(50)]).double()
    weights = TopFraction(fraction=fraction)(Estimate(value, torch.zeros_like(value)), mass)
    assert int((weights > 0).sum()) == taken and bool((weights[100 - taken : 100] > 0).all())


# ------------------------------------------------------------------------------------------------------------- oracle


def test_the_oracle_ignores_the_estimate() -> None:
    rule = Oracle(tensor([1.0, 2.0, 4.0]), of=Proportional(base=0.0))
    expect(allocation(rule, [9.0, NAN, 0.0], [0.0, 1.0, INF]), 1, 2, 4)
    expect(allocation(Oracle([1.0, 1.0, 4.0], of=UCB(scale=5.0, base=0.0)), [1.0] * 3, [0.3, 2.0, 9.0]), 1, 1, 4)


def test_the_truth_may_move() -> None:
    truths = iter([tensor([1.0, 1.0, 2.0]), [2.0, 1.0, 1.0]])
    rule = Oracle(lambda: next(truths), of=Proportional(base=0.0))
    expect(allocation(rule, [1.0] * 3, [0.0] * 3), 1, 1, 2)
    expect(allocation(rule, [1.0] * 3, [0.0] * 3), 2, 1, 1)


@pytest.mark.parametrize("shape", [(), (3,), (1, 3), (2, 3)])
def test_the_truth_may_have_replicas(shape: tuple[int, ...]) -> None:
    truth = torch.rand(shape, dtype=torch.float64) + 0.5
    value = torch.ones(4, 2, 3, dtype=torch.float64)
    mass = tensor(MASS)
    weights = Oracle(truth)(Estimate(value, value), mass)
    expected = (truth.expand(4, 2, 3) * mass) / (truth.expand(4, 2, 3) * mass).sum(-1, keepdim=True)
    torch.testing.assert_close(weights / weights.sum(-1, keepdim=True), expected)


@pytest.mark.parametrize("shape", [(1,), (2,), (3, 1), (5, 3), (1, 1, 3)])
def test_a_truth_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    value = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"truth must fit \[2, 3\], the regions last, got shape \["):
        Oracle(torch.ones(shape))(Estimate(value, value), torch.ones(3))


@pytest.mark.parametrize("bad", [-1.0, INF, NAN])
def test_a_truth_without_sense_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="truth must be finite and non-negative, got values from"):
        Oracle(tensor([1.0, bad]))
    moving = Oracle(lambda: tensor([1.0, bad]))
    with pytest.raises(ValueError, match="truth must be finite and non-negative, got values from"):
        allocation(moving, [1.0] * 2, [0.0] * 2, [0.5, 0.5])


def test_oracles_are_compared_by_identity() -> None:
    truth = tensor([1.0, 2.0])
    one, other = Oracle(truth), Oracle(truth)
    assert one == one and one != other and len({one, other}) == 2


# -------------------------------------------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    "cls, arguments, message",
    [
        (Pool, {"base": -1}, "base must be non-negative and finite, got -1"),
        (Proportional, {"power": -0.5}, "power must be non-negative and finite, got -0.5"),
        (Proportional, {"power": INF}, "power must be non-negative and finite, got inf"),
        (Proportional, {"base": NAN}, "base must be non-negative and finite, got nan"),
        (Proportional, {"power": "2"}, "power must be non-negative and finite, got '2'"),
        (Softmax, {"temperature": 0}, "temperature must be positive and finite, got 0"),
        (Softmax, {"scale": 0.0}, "scale must be positive and finite, got 0.0"),
        (Softmax, {"base": -1}, "base must be non-negative and finite, got -1"),
        (UCB, {"scale": -1.0}, "scale must be non-negative and finite, got -1.0"),
        (UCB, {"power": -1}, "power must be non-negative and finite, got -1"),
        (UCB, {"base": -1}, "base must be non-negative and finite, got -1"),
        (Neyman, {"base": -1}, "base must be non-negative and finite, got -1"),
        (Progress, {"shrink": -1}, "shrink must be non-negative and finite, got -1"),
        (Progress, {"base": -1}, "base must be non-negative and finite, got -1"),
        (TopFraction, {"fraction": 0}, r"fraction must lie in \(0, 1\], got 0"),
        (TopFraction, {"fraction": 1.5}, r"fraction must lie in \(0, 1\], got 1.5"),
        (TopFraction, {"base": -1}, "base must be non-negative and finite, got -1"),
        (Thompson, {"base": -1}, "base must be non-negative and finite, got -1"),
        (Thompson, {"nodes": 4}, "nodes must be a whole number of at least 16, got 4"),
        (Thompson, {"nodes": 64.5}, "nodes must be a whole number of at least 16, got 64.5"),
        (Exp3, {"horizon": 0}, "horizon must be positive and finite, got 0"),
        (Exp3, {"explore": 0}, r"explore must lie in \(0, 1\], got 0"),
        (Exp3, {"ceiling": -2}, "ceiling must be positive and finite, got -2"),
        (Exp3, {"base": -1}, "base must be non-negative and finite, got -1"),
        (Oracle, {"truth": 1.0, "of": "proportional"}, "of must be an allocator, got 'proportional'"),
        (Oracle, {"truth": "hard"}, "truth must be a tensor, numbers or a function that returns them, got 'hard'"),
    ],
)
def test_arguments_out_of_range_are_refused_in_one_line(cls: type, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        cls(**arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fraction", [0.07, 0.1, 0.3, 0.6, 1.0])
def test_top_fraction_counts_equally_in_every_precision(fraction, dtype):
    value = torch.arange(100, dtype=dtype).flip(0) + 1
    chosen = TopFraction(fraction)(Estimate(value, torch.zeros_like(value)), torch.full((100,), 0.01, dtype=dtype))
    assert int((chosen > 0).sum()) == round(100 * fraction)
