"""The public conformance check of allocators, which also runs on your own classes.

An allocator that passes works in the sampler and in the simulator: its weights can be normalised whatever a tracker
reports, and one call handles thousands of replicas. The checks test behaviour only, so they accept any callable
``(estimate, mass) -> weights``. A dataclass must be frozen, because hyper-parameters that change during a run make it
irreproducible; other objects are not restricted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aria.interfaces import Estimate

Rule = Callable[[Estimate, Tensor], Tensor]

RTOL, ATOL = 1e-9, 1e-12
"""Tolerance for normalised weights that should be equal; the order of summation may differ."""


class Case(NamedTuple):
    """One input of an allocator, with its name."""

    name: str
    estimate: Estimate
    mass: Tensor

    def __str__(self) -> str:
        value, stderr, mass = (_shown(part) for part in self.inputs())
        return f"{self.name} (value {value}, stderr {stderr}, mass {mass})"

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        return (*self.estimate, self.mass)

    def copy(self) -> Case:
        return Case(self.name, Estimate(*(part.clone() for part in self.estimate)), self.mass.clone())

    def permuted(self, order: Tensor) -> Case:
        estimate = Estimate(*(part[..., order] for part in self.estimate))
        return Case(f"{self.name}, regions in another order", estimate, self.mass[order])


def check_allocator(allocator: Rule, regions: Sequence[int] = (1, 2, 7), seed: int = 0) -> None:
    """Raise an AssertionError with the class, the violated property and the input if ``allocator`` breaks the contract.

    For every number of ``regions`` and every kind of estimate a tracker may report – ordinary, tied, all zero,
    negative, unseen in part or altogether, infinite, huge, tiny – the weights must be floating, of the shape of the
    estimate, finite, non-negative, positive in total over the regions that have mass, and positive for every
    unobserved one of them, so that it is explored. The same inputs give the same weights and are not modified. Permuted
    regions give permuted weights; check a rule that has one hyper-parameter per region with equal values. Replicas
    stacked along leading axes give the same weights as each replica on its own.

    >>> from aria.allocators import Proportional
    >>> check_allocator(Proportional(power=2.0))
    >>> def by_value(estimate, mass):
    ...     return mass * estimate.value
    >>> check_allocator(by_value, regions=[1])
    Traceback (most recent call last):
    AssertionError: by_value returned weights whose total is not positive on all values and standard errors zero (...)
    """
    if isinstance(allocator, type):
        raise TypeError(f"check_allocator takes an instance: write check_allocator({allocator.__name__}(...))")
    _check_frozen(allocator)
    generator = torch.Generator().manual_seed(seed)
    for num_regions in regions:
        orders = torch.arange(num_regions).flip(0), torch.randperm(num_regions, generator=generator)
        for mass in _masses(num_regions, generator):
            cases = list(_cases(mass, generator))
            alone = [_check_weights(allocator, case) for case in cases]
            for case, weights in zip(cases, alone, strict=True):
                _check_repeatable(allocator, case, weights)
                for order in orders:
                    _check_order(allocator, case, weights, order)
            _check_replicas(allocator, cases, torch.stack(alone))


# ---------------------------------------------------------------------------------------------------------- the inputs


def _masses(num_regions: int, generator: torch.Generator) -> Iterator[Tensor]:
    """(K,) each: unequal shares, without and with an empty region."""
    mass = torch.rand(num_regions, generator=generator, dtype=torch.float64) + 0.1
    yield mass / mass.sum()
    if num_regions > 1:
        mass[-1] = 0
        yield mass / mass.sum()


def _cases(mass: Tensor, generator: torch.Generator) -> Iterator[Case]:
    """Every kind of estimate, over regions of the given ``mass`` (K,)."""
    num_regions = mass.shape[0]
    value = torch.rand(num_regions, generator=generator, dtype=torch.float64) + 0.5
    stderr = torch.rand(num_regions, generator=generator, dtype=torch.float64) * 0.2
    zero, unseen = torch.zeros_like(value), torch.full_like(value, torch.inf)
    first = zero.clone()
    first[0] = 1.0
    last = first.flip(0)
    some = stderr.clone()
    some[: (num_regions + 1) // 2] = torch.inf
    spread = torch.logspace(-300, 300, num_regions, dtype=torch.float64)
    for name, values, errors in [
        ("ordinary estimates", value, stderr),
        ("values known exactly", value, zero),
        ("equal values", zero + 2, zero + 0.3),
        ("all values and standard errors zero", zero, zero),
        ("all values zero", zero, stderr),
        ("one value above zero", last, zero),
        ("negative values", -value, stderr),
        ("values of both signs", value - 1, stderr),
        ("nothing seen", zero, unseen),
        ("some regions unseen", value, some),
        ("some regions unseen, the others zero", zero, torch.where(some.isinf(), some, zero)),
        ("an infinite value", torch.where(first > 0, unseen, value), stderr),
        ("huge values", value * 1e300, stderr * 1e300),
        ("tiny values", value * 1e-300, stderr * 1e-300),
        ("values from tiny to huge", spread, spread * 0.1),
        ("huge standard errors", value, stderr * 1e300),
    ]:
        yield Case(name, Estimate(values, errors), mass)


# ---------------------------------------------------------------------------------------------------------- the checks


def _check_frozen(allocator: Rule) -> None:
    if dataclasses.is_dataclass(allocator) and not type(allocator).__dataclass_params__.frozen:
        raise AssertionError(f"{_name(allocator)} is a dataclass that is not frozen: write @dataclass(frozen=True)")


def _check_weights(allocator: Rule, case: Case) -> Tensor:
    """(..., K) the weights, after every check that needs nothing else."""
    weights = _call(allocator, case)
    shape = case.estimate.value.shape
    _require(isinstance(weights, Tensor), allocator, f"returned a {type(weights).__name__} instead of a tensor", case)
    _require(weights.is_floating_point(), allocator, f"returned weights of type {weights.dtype}, not floating", case)
    _require(weights.shape == shape, allocator, f"returned shape {list(weights.shape)}, not {list(shape)},", case)
    _require(bool(weights.isfinite().all()), allocator, "returned a weight that is not finite", case)
    _require(bool((weights >= 0).all()), allocator, "returned a negative weight", case)
    _require(bool(weights.sum(-1).isfinite().all()), allocator, "returned weights whose total overflows", case)
    drawn = weights * (case.mass > 0)  # the sampler draws no region without mass
    _require(bool((drawn.sum(-1) > 0).all()), allocator, "returned weights whose total is not positive", case)
    unseen = case.estimate.stderr.isinf() & (case.mass > 0)
    _require(bool((weights > 0)[unseen].all()), allocator, "gave no weight to an unobserved region", case)
    return weights


def _check_repeatable(allocator: Rule, case: Case, weights: Tensor) -> None:
    again = _call(allocator, case)
    _require(torch.equal(weights, again), allocator, "returned two different results for the same input", case)


def _check_order(allocator: Rule, case: Case, weights: Tensor, order: Tensor) -> None:
    there = _call(allocator, case.permuted(order))
    _require(_same(weights[..., order], there), allocator, "depends on the order of the regions", case)


def _check_replicas(allocator: Rule, cases: list[Case], alone: Tensor) -> None:
    """All cases stacked, once along one leading axis and once along two; ``alone`` is (R, K), what each gave."""
    mass = cases[0].mass
    estimate = Estimate(*(torch.stack(part) for part in zip(*(case.estimate for case in cases), strict=True)))
    pairs = Estimate(*(torch.stack([part, part.flip(0)]) for part in estimate))
    one = Case("replicas along one axis", estimate, mass)
    two = Case("replicas along two axes", pairs, mass)
    problem = "gives replicas different weights when stacked"
    _require(_same(_check_weights(allocator, one), alone), allocator, problem, one)
    _require(_same(_check_weights(allocator, two), torch.stack([alone, alone.flip(0)])), allocator, problem, two)


def _call(allocator: Rule, case: Case) -> Tensor:
    """The weights for a copy of ``case``, which must not be modified."""
    given = case.copy()
    try:
        weights = allocator(given.estimate, given.mass)
    except Exception as error:
        raise AssertionError(f"{_name(allocator)} raised {type(error).__name__}: {error}, on {case}") from error
    kept = all(torch.equal(a, b) for a, b in zip(case.inputs(), given.inputs(), strict=True))
    _require(kept, allocator, "modified its input", case)
    return weights


def _same(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors of weights (..., K) are the same distributions; their scales are free."""
    left, right = (weights / weights.amax(-1, keepdim=True) for weights in (left, right))
    return torch.allclose(left / left.sum(-1, keepdim=True), right / right.sum(-1, keepdim=True), RTOL, ATOL)


def _require(holds: bool, allocator: Rule, problem: str, case: Case) -> None:
    if not holds:
        raise AssertionError(f"{_name(allocator)} {problem} on {case}")


def _name(allocator: Rule) -> str:
    return getattr(allocator, "__name__", type(allocator).__name__)


def _shown(part: Tensor) -> str:
    short = part.dim() == 1 and part.shape[0] <= 8
    return f"[{', '.join(f'{number:.4g}' for number in part.tolist())}]" if short else f"of shape {list(part.shape)}"
