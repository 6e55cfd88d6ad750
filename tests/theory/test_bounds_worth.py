"""T25 to T28: optima against numerical optimisation, laws on random regions, equality where sharpness is claimed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import ndtri

from theory.bounds import (
    best_effort,
    coherence,
    coherent_gap,
    effort_left,
    gate_loss,
    gated_gain,
    merged,
    settled_effort,
    worth,
    worth_ceiling,
    worth_of_spread,
)

seeds, transfers = st.integers(0, 10**9), st.just(0.0) | st.floats(0.01, 0.9)


def some(seed, size=5):
    """Mass, discrepancies and their exponents, and the effort they were measured under."""
    choose = np.random.default_rng(seed)
    mass, allocation = choose.dirichlet(np.full(size, 0.7), size=2) * 0.95 + 0.05 / size
    return mass, np.exp(choose.normal(0, 1, size)), choose.uniform(0.2, 2, size), allocation


@settings(max_examples=15)
@given(seeds, transfers)
def test_no_allocation_leaves_less_than_the_best(seed, transfer):
    m, level, a, q = some(seed)

    def left(z):
        effort = np.exp(z - z.max())
        return effort_left(m, level, effort / effort.sum(), a, q, transfer)

    starts = np.log(m), np.log(m * level)
    options = {"maxfev": 20_000, "maxiter": 20_000, "xatol": 1e-9, "fatol": 1e-12}
    found = min(minimize(left, start, method="Nelder-Mead", options=options).fun for start in starts)
    best = effort_left(m, level, best_effort(m, level, a, q, transfer), a, q, transfer)
    assert best <= found + 1e-9
    assert found == pytest.approx(best, abs=2e-4)
    assert 1 - best == pytest.approx(worth(m, level, a, q, transfer), abs=1e-12)


@given(seeds, st.floats(0.1, 3))
def test_the_best_effort_without_transfer_is_a_power_of_mass_times_difficulty(seed, a):
    m, level, _, q = some(seed)
    law = (m * level * q**a) ** (1 / (1 + a))
    assert best_effort(m, level, a, q) == pytest.approx(law / law.sum(), rel=1e-9)
    mean = (m * level ** (1 / (1 + a))).sum() ** (1 + a)
    assert worth(m, level, a) == pytest.approx(1 - mean / (m * level).sum(), abs=1e-10)


@given(seeds, transfers)
def test_effort_has_the_same_marginal_value_wherever_it_goes(seed, transfer):
    m, level, a, q = some(seed)
    best, start = best_effort(m, level, a, q, transfer), (1 - transfer) * q + transfer * m
    n = (1 - transfer) * best + transfer * m
    value = m * a * level * (n / start) ** -a / n
    spent = best > 1e-9
    assert np.ptp(np.log(value[spent])) < 1e-6
    assert (value[~spent] <= value[spent].max() * (1 + 1e-6)).all()


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.3])
@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0])
def test_the_worth_of_a_spread_is_that_of_many_regions(spread, exponent):
    levels = np.exp(spread * ndtri((np.arange(20_000) + 0.5) / 20_000))
    mass = np.full(20_000, 1 / 20_000)
    assert worth(mass, levels, exponent) == pytest.approx(worth_of_spread(spread, exponent), rel=0.01)


@given(seeds, st.floats(0.1, 3), transfers)
def test_gains_are_below_the_ceiling_and_transfer_shrinks_them(seed, a, transfer):
    m, level, _, _ = some(seed)
    gain = worth(m, level, a, transfer=transfer)
    assert -1e-12 <= gain <= worth(m, level, a) + 1e-10
    assert worth(m, level, a) <= worth_ceiling(m, level)
    assert worth(m, level, 2 * a) >= worth(m, level, a) - 1e-12
    assert worth(m, level, 1e4) == pytest.approx(worth_ceiling(m, level), abs=1e-3)


def test_the_ceiling_with_a_region_that_is_done():
    assert worth_ceiling([0.5, 0.5], [0.0, 1.0]) == 1.0
    assert worth_ceiling([0.0, 1.0], [0.0, 1.0]) == pytest.approx(0.0)


@given(seeds, transfers, st.floats(0, 3))
def test_the_proportional_rule_settles_where_it_reproduces_itself(seed, transfer, power):
    m, level, a, q = some(seed)
    a = float(a[0])
    settled = settled_effort(m, level, a, q, transfer, power)
    now = level * (((1 - transfer) * settled + transfer * m) / ((1 - transfer) * q + transfer * m)) ** -a
    again = m * now**power
    assert settled == pytest.approx(again / again.sum(), rel=1e-9)
    if transfer == 0:
        assert settled_effort(m, level, a, q) == pytest.approx(best_effort(m, level, a, q), rel=1e-9)


def test_transfer_costs_the_proportional_rule_much_of_what_there_is():
    """With 256 regions, exponent .5 and spread .9: power 1 gets all, 87 % and 57 % of it."""
    mass, level = np.full(256, 1 / 256), np.exp(0.9 * ndtri((np.arange(256) + 0.5) / 256))
    known = {0: (0.124, 0.124, 0.095), 0.5: (0.120, 0.105, 0.117), 0.9: (0.071, 0.040, 0.062)}
    for transfer, (most, power_1, power_2) in known.items():
        gains = [
            1 - effort_left(mass, level, settled_effort(mass, level, transfer=transfer, power=p), transfer=transfer)
            for p in (1, 2)
        ]
        assert worth(mass, level, transfer=transfer) == pytest.approx(most, abs=6e-4)
        assert gains == pytest.approx([power_1, power_2], abs=6e-4)


@given(seeds, st.floats(0, 0.95), st.floats(0.1, 2))
def test_a_gate_limits_the_loss_and_keeps_its_share_of_the_gain(seed, gate, a):
    m, level, _, adaptive = some(seed)
    left = effort_left(m, level, (1 - gate) * m + gate * adaptive, a)
    assert left <= 1 + gate_loss(gate, a) + 1e-9
    assert 1 - left >= gated_gain(gate, 1 - effort_left(m, level, adaptive, a)) - 1e-9


@pytest.mark.parametrize("gate", [0.1, 0.5, 0.9])
def test_the_gate_s_loss_is_reached_where_nothing_matters(gate):
    mixed = [(1 - gate), gate]
    assert effort_left([1.0, 0.0], [1.0, 0.0], mixed) == pytest.approx(1 + gate_loss(gate))


@given(seeds)
def test_a_coarser_partition_is_worth_no_more(seed):
    m, level, _, _ = some(seed, 8)
    shares, means = merged(m, level, np.arange(8) % 3)
    assert shares.sum() == pytest.approx(1) and (shares * means).sum() == pytest.approx((m * level).sum())
    assert worth(shares, means) <= worth(m, level) + 1e-12
    assert worth_ceiling(shares, means) <= worth_ceiling(m, level) + 1e-12


def test_a_group_without_regions_has_nothing():
    shares, means = merged([0.5, 0.5], [1.0, 3.0], [0, 2])
    assert shares.tolist() == [0.5, 0, 0.5] and means.tolist() == [1, 0, 3]


@given(seeds, st.integers(1, 8), st.integers(1, 4))
def test_single_step_gaps_bound_the_gap_of_all_steps(seed, steps, size):
    """Errors that a linear sampler carries to the end: gap = |Σ e|², single gaps |e|²."""
    errors = np.random.default_rng(seed).normal(size=(steps, size))
    single, gap = (errors**2).sum(-1), (errors.sum(0) ** 2).sum()
    assert gap <= coherent_gap(single) * (1 + 1e-9)
    assert coherence(gap, single) <= steps * (1 + 1e-9)
    same = np.repeat(errors[:1], steps, 0)
    assert (same.sum(0) ** 2).sum() == pytest.approx(coherent_gap((same**2).sum(-1)))
    assert coherence((same.sum(0) ** 2).sum(), (same**2).sum(-1)) == pytest.approx(steps)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: worth([0.5, 0.6], [1, 1]), "mass must sum to 1"),
        (lambda: worth([0.5, 0.5], [-1, 1]), "discrepancy must be non-negative"),
        (lambda: worth([0.5, 0.5], [0, 0]), "the mean discrepancy must be positive"),
        (lambda: worth([0.5, 0.5], [1, 1], exponent=0), "exponent must be positive"),
        (lambda: worth([0.5, 0.5], [1, 1], transfer=1), r"transfer must lie in \[0, 1\)"),
        (lambda: worth([0.5, 0.5], [1, 1], allocation=[1, 0]), "allocation must be positive where there"),
        (lambda: gate_loss(1), r"gate must lie in \[0, 1\)"),
        (lambda: coherence(1, [0, 0]), "the sum of single must be positive"),
    ],
)
def test_arguments_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_arrays_of_worlds_are_computed_at_once():
    mass = np.full((3, 4), 0.25)
    level = np.array([[1, 1, 1, 1], [1, 2, 3, 4], [1, 1, 1, 9.0]])
    together = worth(mass, level, transfer=[0, 0.5, 0.9])
    assert together == pytest.approx([worth(m, x, transfer=t) for m, x, t in zip(mass, level, (0, 0.5, 0.9))])
