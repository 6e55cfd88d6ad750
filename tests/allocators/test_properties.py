"""What holds for every allocator on any estimate a tracker could report, and on some that none should."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aria import allocators
from aria.allocators import UCB, Exp3, Neyman, Progress, Proportional, Softmax, Thompson, TopFraction
from aria.interfaces import Allocator, Estimate
from aria.registry import spec

EXAMPLES = [example for name in allocators.__all__ for example in getattr(allocators, name).examples()]
repeatable = settings(derandomize=True, deadline=None, max_examples=50)

Situation = tuple[Estimate, Tensor]
FINITE = st.one_of(st.sampled_from([0.0, 1.0, 1e-300, 1e300, 5e-324]), st.floats(0, 10), st.floats(0, 1e300))
VALUES = st.one_of(FINITE, FINITE.map(lambda x: -x), st.sampled_from([torch.inf, -torch.inf, torch.nan]))
ERRORS = st.one_of(FINITE, st.sampled_from([0.0, torch.inf, torch.nan]))
MASSES = st.one_of(st.just(0.0), st.floats(1e-6, 1.0))


@st.composite
def situations(draw: st.DrawFn, values: st.SearchStrategy[float] = VALUES) -> Situation:
    """An estimate (..., K) with none to two replica axes and masses (K,), not all zero."""
    shape = (*draw(st.lists(st.integers(1, 3), max_size=2)), draw(st.integers(1, 5)))
    size = torch.Size(shape).numel()
    value, stderr = (draw(st.lists(kind, min_size=size, max_size=size)) for kind in (values, ERRORS))
    mass = torch.tensor(draw(st.lists(MASSES, min_size=shape[-1], max_size=shape[-1])), dtype=torch.float64)
    mass[0] += (mass.sum() == 0).double()
    estimate = Estimate(*(torch.tensor(part, dtype=torch.float64).reshape(shape) for part in (value, stderr)))
    return estimate, mass / mass.sum()


def every(check: Callable[..., None], allocators: list[Allocator], *drawn: object) -> None:
    """Check every allocator on the same drawn situation, since to draw one takes longer; those that fail are named."""
    failed = []
    for allocator in allocators:
        try:
            check(allocator, *drawn)
        except Exception as error:
            error.add_note(f"allocator: {spec(allocator)}")
            failed.append(error)
    if failed:
        raise failed[0] if len(failed) == 1 else ExceptionGroup(f"{len(failed)} allocators fail", failed)


def distribution(allocator: Allocator, estimate: Estimate, mass: Tensor) -> Tensor:
    weights = allocator(estimate, mass)
    return weights / weights.sum(-1, keepdim=True)


@repeatable
@given(situation=situations())
def test_weights_can_be_drawn_from(situation: Situation) -> None:
    def check(allocator: Allocator, estimate: Estimate, mass: Tensor) -> None:
        weights = allocator(estimate, mass)
        assert weights.shape == estimate.value.shape
        assert bool(weights.isfinite().all()) and bool((weights >= 0).all())
        assert bool((weights.sum(-1) > 0).all())
        assert bool((weights[..., mass == 0] == 0).all())

    every(check, EXAMPLES, *situation)


@repeatable
@given(situation=situations())
def test_unseen_regions_are_explored(situation: Situation) -> None:
    estimate, mass = situation
    unseen = ~(estimate.value.isfinite() & estimate.stderr.isfinite()) & (mass > 0)

    def check(allocator: Allocator) -> None:
        assert bool((allocator(estimate, mass)[unseen] > 0).all())

    every(check, EXAMPLES)


@repeatable
@given(situation=situations(), data=st.data())
def test_the_order_of_regions_does_not_matter(situation: Situation, data: st.DataObject) -> None:
    estimate, mass = situation
    order = data.draw(st.permutations(range(mass.shape[0])))

    def check(allocator: Allocator) -> None:
        there = distribution(allocator, Estimate(*(part[..., order] for part in estimate)), mass[order])
        torch.testing.assert_close(there, distribution(allocator, estimate, mass)[..., order], rtol=1e-9, atol=1e-12)

    every(check, EXAMPLES)


@repeatable
@given(situation=situations(), data=st.data())
def test_regions_without_mass_do_not_matter(situation: Situation, data: st.DataObject) -> None:
    estimate, mass = situation
    other = Estimate(*(part.clone() for part in estimate))
    for part, kind in zip(other, (VALUES, ERRORS)):
        part[..., mass == 0] = data.draw(kind)

    def check(allocator: Allocator) -> None:
        left, right = distribution(allocator, estimate, mass), distribution(allocator, other, mass)
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)

    every(check, EXAMPLES)


def base_measure(allocator: Allocator, mass: Tensor) -> Tensor:
    base = getattr(allocator, "base", 0.5 if isinstance(allocator, allocators.Oracle) else 0.0)
    weights = torch.where(mass > 0, mass**base, 0.0)
    return weights / weights.sum()


@pytest.mark.parametrize("allocator", [e for e in EXAMPLES if not isinstance(e, allocators.Oracle)], ids=repr)
@pytest.mark.parametrize("stderr", [0.0, torch.inf])
def test_no_signal_leaves_the_base_measure(allocator: Allocator, stderr: float) -> None:
    mass = torch.tensor([0.5, 0.3, 0.0, 0.2], dtype=torch.float64)
    q = distribution(allocator, Estimate(torch.zeros_like(mass), torch.full_like(mass, stderr)), mass)
    torch.testing.assert_close(q, base_measure(allocator, mass), rtol=1e-12, atol=0.0)


SCALE_FREE = [
    Proportional(),
    Proportional(power=2.0, base=0.5),
    Softmax(),
    Softmax(temperature=0.1, base=0.0),
    UCB(scale=2.0),
    Exp3(),
    Neyman(),
    Progress(),
    Thompson(),
    TopFraction(fraction=0.4),
]


@repeatable
@given(situation=situations(values=st.floats(-10, 10)), exponent=st.sampled_from([-900, -3, 3, 900]))
def test_the_unit_of_the_signal_does_not_matter(situation: Situation, exponent: int) -> None:
    estimate, mass = situation
    plain = Estimate(*(torch.where(part.abs() < 1e-3, 0.0, part).clamp(max=10) for part in estimate))
    plain = Estimate(plain.value, torch.where(estimate.stderr.isfinite(), plain.stderr, torch.inf))
    unit = 2.0**exponent

    def check(allocator: Allocator) -> None:
        scaled = distribution(allocator, Estimate(plain.value * unit, plain.stderr * unit), mass)
        torch.testing.assert_close(scaled, distribution(allocator, plain, mass), rtol=1e-9, atol=1e-12)

    every(check, SCALE_FREE)


def test_a_fixed_scale_is_a_unit() -> None:
    value, zeros, mass = torch.tensor([1.0, 2.0]), torch.zeros(2), torch.tensor([0.5, 0.5])
    once, twice = (distribution(Softmax(scale=1.0), Estimate(unit * value, zeros), mass) for unit in (1, 2))
    assert not torch.allclose(once, twice)


@pytest.mark.parametrize("allocator", SCALE_FREE, ids=repr)
def test_single_precision_is_enough(allocator: Allocator) -> None:
    value, stderr, mass = torch.tensor([[1.0, 2.0, 4.0], [0.1, torch.inf, 0.5], [0.2, 0.3, 0.5]])
    single = distribution(allocator, Estimate(value, stderr), mass)
    double = distribution(allocator, Estimate(value.double(), stderr.double()), mass.double())
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("allocator", [Proportional(), Softmax(), UCB(scale=0.0), Exp3(), Neyman(), TopFraction()])
def test_an_unseen_region_reads_as_the_largest_seen(allocator: Allocator) -> None:
    mass = torch.tensor([0.3, 0.3, 0.2, 0.2], dtype=torch.float64)
    seen = Estimate(torch.tensor([1.0, 3.0, 3.0, 3.0], dtype=torch.float64), torch.zeros(4, dtype=torch.float64))
    for value, stderr in [(0.0, torch.inf), (torch.nan, 0.1), (-torch.inf, 0.1), (torch.inf, 0.1), (1e300, torch.inf)]:
        estimate = Estimate(*(part.clone() for part in seen))
        estimate.value[2], estimate.stderr[2] = value, stderr
        assert torch.equal(allocator(estimate, mass), allocator(seen, mass))
