"""T20 to T24: identities on any allocation, inequalities on random ones, equality where sharpness is claimed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.bounds import (
    allocation_loss,
    allocation_regret,
    best_allocation,
    best_second_moment,
    expected_shift,
    floor_cost,
    floor_second_moment,
    importance_bias,
    importance_second_moment,
    misallocation_factor,
    proportional_shift,
    relative_shift,
    softmax_shift,
    total_variation,
)

seeds, errors, floors = st.integers(0, 10**9), st.floats(0, 0.95), st.just(0.0) | st.floats(1e-6, 0.9)


def some(seed, size=5):
    """Mass, allocation and magnitudes."""
    choose = np.random.default_rng(seed)
    shares = choose.dirichlet(np.full(size, 0.7), size=2) * 0.99 + 0.01 / size
    return shares[0], shares[1], choose.uniform(0.1, 5, size)


def mixed(q, floor):
    return (1 - floor) * q + floor / q.size


@given(seeds)
def test_reweighting_is_unbiased_wherever_it_looks(seed):
    p, q, m = some(seed)
    values, spread = m, m[::-1]
    z = np.stack([p / q * (values + sign * spread) for sign in (1, -1)])  # Y = θ ± spread
    assert (q * z.mean(0)).sum() - (p * values).sum() == pytest.approx(importance_bias(p, q, values), abs=1e-9)
    magnitude = np.sqrt(values**2 + spread**2)
    assert (q * (z**2).mean(0)).sum() == pytest.approx(importance_second_moment(p, q, magnitude), rel=1e-9)
    blind = np.where(np.arange(5) < 2, 0.0, q) / q[2:].sum()
    assert importance_bias(p, blind, values) == pytest.approx(-(p * values)[:2].sum())
    assert importance_second_moment(p, blind, magnitude) == np.inf
    assert np.isfinite(importance_second_moment(p, blind, magnitude * (blind > 0)))


@given(seeds)
def test_the_best_allocation_and_what_others_lose(seed):
    p, q, m = some(seed)
    best = best_allocation(p, m)
    assert best == pytest.approx(p * m / (p * m).sum())
    assert importance_second_moment(p, best, m) == pytest.approx(best_second_moment(p, m), rel=1e-9)
    excess = importance_second_moment(p, q, m) / best_second_moment(p, m) - 1
    assert excess == pytest.approx(allocation_loss(p, q, m), rel=1e-6, abs=1e-12) and excess >= 0
    assert allocation_loss(p, best, m) == pytest.approx(0, abs=1e-12)


@given(seeds, errors, floors)
def test_estimates_within_a_factor_cost_a_factor(seed, error, floor):
    p, _, m = some(seed)
    factors = 1 + error * np.random.default_rng(seed + 1).uniform(-1, 1, 5)
    q = mixed(best_allocation(p, 7.0 * m * factors), floor)
    second = importance_second_moment(p, q, m)
    assert second <= best_second_moment(p, m) * misallocation_factor(error, floor) * (1 + 1e-9)
    if floor > 0:
        uniform = np.full(5, 0.2)
        assert second <= floor_second_moment(p, m, floor, uniform) * (1 + 1e-9)
        own = (1 - floor) * best_allocation(p, m[::-1]) + floor * p
        assert importance_second_moment(p, own, m) <= floor_second_moment(p, m, floor) * (1 + 1e-9)


def test_half_the_weight_at_either_end_is_worst():
    p, m = np.full(4, 0.25), np.ones(4)
    q = best_allocation(p, m * np.array([1.4, 1.4, 0.6, 0.6]))
    assert importance_second_moment(p, q, m) == pytest.approx(misallocation_factor(0.4))
    assert (1.4 / 0.6) / misallocation_factor(0.4) == pytest.approx(1.96)  # what the usual bound would be looser by
    assert misallocation_factor(0.4, 0.2) == pytest.approx(1 / 0.84 / 0.8)
    assert floor_second_moment(p, 2 * m, 0.1, base=p) == pytest.approx(4 / 0.1 * 4 * 0.25**2 * 4)
    starved = [1 - 1e-12, 1e-12]  # the floor alone is left of the region that matters
    weight = importance_second_moment([0.5, 0.5], mixed(np.array(starved), 0.1), [0.0, 3.0])
    assert weight == pytest.approx(floor_second_moment([0.5, 0.5], [0.0, 3.0], 0.1), rel=1e-6)


@given(seeds, st.floats(0.01, 0.95), floors, st.floats(0.1, 5))
def test_allocations_move_no_further_than_their_estimates_let_them(seed, error, floor, temperature):
    _, _, m = some(seed)
    choose = np.random.default_rng(seed + 1)
    other = choose.uniform(0, 5, 5)
    first, second = (mixed(x / x.sum(), floor) for x in (m, other))
    change = np.abs(m - other).sum()
    bound = proportional_shift(change, m.sum(), other.sum(), floor)
    assert total_variation(first, second) <= bound * (1 + 1e-9)
    near = m * (1 + error * choose.uniform(-1, 1, 5))
    second = mixed(near / near.sum(), floor)
    assert total_variation(first, second) <= relative_shift(error, floor) * (1 + 1e-9)
    soft = [mixed(np.exp(x / temperature) / np.exp(x / temperature).sum(), floor) for x in (m, other)]
    bound = softmax_shift(np.abs(m - other).max(), temperature, floor)
    assert total_variation(*soft) <= bound * (1 + 1e-9)


@pytest.mark.parametrize("floor", [0.0, 0.3])
def test_shifts_are_attained(floor):
    grown = [mixed(np.array(x) / sum(x), floor) for x in ([0.0, 4.0], [1.0, 4.0])]
    assert total_variation(*grown) == pytest.approx(proportional_shift(1.0, 4.0, 5.0, floor))
    eps = 0.6  # q_0 sqrt((1+ε)/(1-ε)) balances: q_0 = 1 / (1 + sqrt(R))
    root = np.sqrt((1 + eps) / (1 - eps))
    before = np.array([1.0, root])
    after = before * np.array([1 + eps, 1 - eps])
    moved = [mixed(x / x.sum(), floor) for x in (before, after)]
    assert total_variation(*moved) == pytest.approx(relative_shift(eps, floor))
    even = [
        mixed(np.exp(x / 0.5) / np.exp(x / 0.5).sum(), floor) for x in (np.array([0.2, -0.2]), np.array([-0.2, 0.2]))
    ]
    assert total_variation(*even) == pytest.approx(softmax_shift(0.4, 0.5, floor))
    assert relative_shift(1e-6) == pytest.approx(5e-7)


@given(seeds, floors)
def test_regret_is_covered(seed, floor):
    _, _, utility = some(seed)
    choose = np.random.default_rng(seed + 1)
    estimate = np.maximum(utility + choose.normal(0, 1, 5), 0.01)
    ideal, real = (mixed(x / x.sum(), floor) for x in (utility, estimate))
    lost = ((ideal - real) * utility).sum()
    reach = utility.max() - utility.min()
    assert lost <= allocation_regret(reach, total_variation(ideal, real)) + 1e-12
    shift = expected_shift((utility - estimate) ** 2, utility.sum())
    assert total_variation(ideal, real) <= shift * (1 + 1e-9)
    best = np.eye(5)[utility.argmax()]
    assert (best * utility).sum() - (mixed(best, floor) * utility).sum() == pytest.approx(floor_cost(utility, floor))
    assert ((ideal - mixed(ideal, floor)) * utility).sum() <= floor_cost(utility, floor) + 1e-12


def test_regret_is_sharp_for_two_regions():
    ideal, real = np.array([0.9, 0.1]), np.array([0.4, 0.6])
    lost = ((ideal - real) * np.array([3.0, 1.0])).sum()
    assert allocation_regret([2.0], [total_variation(ideal, real)]) == pytest.approx(lost)
    assert allocation_regret([2.0, 1.0], [0.5, 0.25]) == pytest.approx(1.25)
    assert floor_cost([1.0, 3.0], 0.2, base=[0.75, 0.25]) == pytest.approx(0.2 * 1.5)
    assert expected_shift([0.04, 0.09], total=2.0) == pytest.approx(0.25)
    assert expected_shift([4.0, 9.0], total=2.0) == 1
