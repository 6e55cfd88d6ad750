"""T10 to T14: every branch of visits and noise through the shipped tracker, with its probability."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from aria.trackers import EMA
from tests.theory.exact import Tree
from theory.bounds import (
    asynchronous_best_mse,
    asynchronous_best_rate,
    asynchronous_mse,
    asynchronous_mse_random_walk,
    closed_loop_mse,
    coupled_drift_mse,
    effective_batch,
    effort_weighted_bias,
    effort_weighted_mse,
    ema_best_mse,
    ema_best_rate,
    ema_mse,
    ema_mse_random_walk,
    random_visit_rate,
    residual_mse,
    selection_bias,
    weighted_break_even,
    weighted_mse,
    weighted_variance,
)

rates, positives = st.floats(1e-4, 1), st.floats(1e-3, 1e2)
SIGNS = [(0.5, 1.0), (0.5, -1.0)]


def tree_of(rate, initial):
    """A tree of the shipped EMA without the visit probability, so that the rate stays constant."""
    return Tree(EMA(rate=rate, importance=True), initial=initial, pass_visit=False)


def scaled(s):
    return [(p, s * sign) for p, sign in SIGNS]


# ------------------------------------------------------------------------------------------------------------------ T10


@pytest.mark.parametrize(("rate", "q"), [(0.3, 0.4), (0.7, 0.9), (1.0, 0.5), (0.2, 1.0)])
@pytest.mark.parametrize("initial", [0.0, -1.3])
def test_a_line_attains_the_oblivious_bound(rate, q, initial):
    drift, s = 0.4, 0.9
    tree = tree_of(rate, initial)
    for steps in range(1, 7):
        tree.step(drift, q, scaled(s))
        args = (rate, q, s, drift, steps, abs(initial))
        assert tree.mean(tree.error**2) == pytest.approx(asynchronous_mse(*args, adaptive=False), rel=1e-9)
        ahead = tree.mean((tree.error - drift) ** 2)
        assert ahead == pytest.approx(asynchronous_mse(*args, when="next", adaptive=False), rel=1e-9)


@given(rates, st.floats(0.01, 1), positives, positives, st.integers(1, 9))
def test_settled_moments_do_not_move(rate, q, s, drift, n):
    """The closed forms are the fixed point of the two moments, at all times and just after a visit."""
    kappa, variance = rate * (2 - rate), s**2 / n
    lag = 1 / (rate * q) - 1
    mean, now = drift * lag, asynchronous_mse(rate, q, s, drift, batch=n, adaptive=False)
    ahead = now + 2 * drift * mean + drift**2
    assert mean == pytest.approx((1 - q * rate) * (mean + drift), rel=1e-6, abs=1e-9)
    assert now == pytest.approx((1 - q * kappa) * ahead + q * rate**2 * variance, rel=1e-9)
    assert asynchronous_mse(rate, q, s, drift, batch=n, when="next", adaptive=False) == pytest.approx(ahead, rel=1e-9)
    visit = asynchronous_mse(rate, q, s, drift, batch=n, when="visit", adaptive=False)
    assert visit == pytest.approx((1 - rate) ** 2 * ahead + rate**2 * variance, rel=1e-9)


def test_young_becomes_settled():
    for mode in (True, False):
        for when in ("now", "next"):
            young = asynchronous_mse(0.2, 0.3, 1.1, 0.05, steps=3000, initial=4.0, when=when, adaptive=mode)
            assert young == pytest.approx(asynchronous_mse(0.2, 0.3, 1.1, 0.05, when=when, adaptive=mode), rel=1e-9)


@given(rates, positives, positives, st.booleans(), st.sampled_from(["now", "next"]))
def test_visits_at_every_step_are_the_synchronous_case(rate, s, drift, adaptive, when):
    at_once = asynchronous_mse(rate, 1.0, s, drift, when=when, adaptive=adaptive)
    assert at_once == pytest.approx(ema_mse(rate, s, drift, when=when, adaptive=adaptive), rel=1e-9)
    for young in (3, 40):
        at_once = asynchronous_mse(rate, 1.0, s, drift, young, 0.7, when=when, adaptive=adaptive)
        assert at_once == pytest.approx(ema_mse(rate, s, drift, young, 0.7, when=when, adaptive=adaptive), rel=1e-9)


@given(st.lists(st.floats(0.3, 1), min_size=5, max_size=5), st.lists(st.floats(-1, 1), min_size=5, max_size=5))
def test_more_visits_and_less_drift_stay_below(visits, drifts):
    tree = tree_of(0.4, 0.0)
    for q, drift in zip(visits, drifts, strict=True):
        tree.step(drift, q, scaled(0.8))
    assert tree.mean(tree.error**2) <= asynchronous_mse(0.4, 0.3, 0.8, 1.0, 5, adaptive=False) * (1 + 1e-12)


@pytest.mark.parametrize(("rate", "q"), [(0.3, 0.4), (0.7, 0.9), (1.0, 0.5)])
def test_a_random_walk_is_exact_between_visits(rate, q):
    """One step from the settled error (two points) leads back to it."""
    s, step = 0.9, 0.5
    settled = asynchronous_mse_random_walk(rate, q, s, step, batch=2)
    moved = settled + step**2
    kappa = rate * (2 - rate)
    assert settled == pytest.approx((1 - q * kappa) * moved + q * rate**2 * s**2 / 2, rel=1e-9)
    noises = scaled(s / np.sqrt(2))
    walk = [tree_of(rate, np.sqrt(settled)) for _ in SIGNS]
    for branch, (_, sign) in zip(walk, SIGNS, strict=True):
        branch.step(sign * step, q, noises)
    assert np.mean([b.mean(b.error**2) for b in walk]) == pytest.approx(settled, rel=1e-9)
    assert asynchronous_mse_random_walk(rate, 1.0, s, step) == pytest.approx(ema_mse_random_walk(rate, s, step))


GRID = np.linspace(1e-3, 1, 20_001)
MODES = [("now", True), ("next", True), ("now", False), ("next", False), ("visit", False)]


@pytest.mark.parametrize(("when", "adaptive"), MODES)
@pytest.mark.parametrize(("q", "rho"), [(1.0, 0.1), (0.5, 0.02), (0.1, 0.3), (0.02, 3.0)])
def test_best_rates_beat_every_grid(q, rho, when, adaptive):
    args, mode = (2.0, rho * 2 / np.sqrt(3), 3), dict(when=when, adaptive=adaptive)
    losses = asynchronous_mse(GRID, q, *args[:2], batch=3, **mode)
    best = asynchronous_best_mse(q, *args, **mode)
    assert best <= losses.min() * (1 + 1e-9)
    assert best == pytest.approx(losses.min(), rel=1e-4)
    assert asynchronous_best_rate(q, *args, **mode) == pytest.approx(GRID[losses.argmin()], abs=1e-3)


def test_best_rates_reduce_to_the_synchronous_ones():
    for when, adaptive in MODES[:4]:
        mode = dict(when=when, adaptive=adaptive)
        for rho in (1e-6, 0.05, 2.0):
            assert asynchronous_best_rate(1.0, 1.0, rho, **mode) == pytest.approx(ema_best_rate(1.0, rho, **mode))
            assert asynchronous_best_mse(1.0, 1.0, rho, **mode) == pytest.approx(ema_best_mse(1.0, rho, **mode))
    assert asynchronous_best_mse(0.5, 1.0, 0.0) == 0


def test_rare_visits_see_the_drift_per_visit():
    best = asynchronous_best_mse(1e-3, 1.0, 1e-12, adaptive=False)
    assert best == pytest.approx(1.1906 * 1e-9 ** (2 / 3), rel=2e-3)
    assert asynchronous_best_rate(1e-3, 1.0, 1e-12, adaptive=False) == pytest.approx(2e-9 ** (2 / 3), rel=2e-3)


# ------------------------------------------------------------------------------------------------------------------ T11


@pytest.mark.parametrize("batch", [1, 2, 7, 50])
@pytest.mark.parametrize("share", [1e-4, 0.03, 0.4, 1.0])
def test_random_batches_are_exact(batch, share):
    n = np.arange(1, batch + 1)
    chance = binom.pmf(n, batch, share)
    assert random_visit_rate(batch, share) == pytest.approx(chance.sum(), rel=1e-9)
    exact = chance.sum() / (chance / n).sum()
    assert effective_batch(batch, share) == pytest.approx(exact, rel=1e-9)
    plain = (chance * 2 / (n + 1)).sum()
    pessimistic = effective_batch(batch, share, exact=False)
    assert pessimistic == pytest.approx(max(chance.sum() / plain, 1.0), rel=1e-9)
    assert exact / 2 <= pessimistic <= exact * (1 + 1e-12)
    mean = (chance * n).sum() / chance.sum()
    assert effective_batch(batch, share) <= mean * (1 + 1e-12)  # the mean count promises too much


def test_random_batches_enter_the_bound_as_they_enter_the_tracker():
    rate, s, batch, share = 0.4, 1.2, 3, 0.3
    q, n = random_visit_rate(batch, share), effective_batch(batch, share)
    tree = tree_of(rate, 0.0)
    noises = [
        (binom.pmf(k, batch, share) / q / 2, sign * s / np.sqrt(k)) for k in range(1, batch + 1) for sign in (1, -1)
    ]
    for _ in range(4):
        tree.step(0.2, q, noises)
    assert tree.mean(tree.error**2) == pytest.approx(
        asynchronous_mse(rate, q, s, 0.2, 4, batch=n, adaptive=False), rel=1e-9
    )


# ------------------------------------------------------------------------------------------------------------- T12, T13


@given(st.integers(0, 10**9), st.floats(0.1, 1), st.floats(0.1, 1), st.floats(0, 1), st.floats(0, 2))
def test_no_adversary_exceeds_the_adaptive_bound(seed, rate, q, drift, initial):
    """Visits, drift and noise are arbitrary functions of the branch."""
    choose = np.random.default_rng(seed)
    tree = tree_of(rate, initial)
    for steps in range(1, 5):
        size = tree.chance.size
        up = choose.uniform(0.05, 0.95, size)  # P(noise > 0), mean 0 and variance 1
        noises = [(up, np.sqrt((1 - up) / up)), (1 - up, -np.sqrt(up / (1 - up)))]
        towards = np.where(choose.random(size) < 0.7, -np.sign(tree.error), choose.uniform(-1, 1, size))
        visit = np.where(tree.error**2 > choose.random(), q, choose.uniform(q, 1, size))
        tree.step(drift * towards, visit, noises)
        assert tree.mean(tree.error**2) <= asynchronous_mse(rate, q, 1.0, drift, steps, initial) * (1 + 1e-9)


def test_selective_visits_attain_the_floor():
    """Visited surely while the error is small, else with probability q; noise is 0 but for rare shocks."""
    rate, q, s, rare, steps = 0.8, 0.1, 1.0, 1e-7, 6
    noises = [(1 - rare, 0.0), (rare / 2, s / np.sqrt(rare)), (rare / 2, -s / np.sqrt(rare))]
    tree = tree_of(rate, 0.0)
    for _ in range(steps):
        tree.step(0.0, np.where(tree.error**2 < 0.5, 1.0, q), noises)
    exact, floor = tree.mean(tree.error**2), rate / (2 - rate)
    assert exact == pytest.approx(asynchronous_mse(rate, q, s, 0.0, steps), rel=1e-5)
    assert exact > 3 * floor  # oblivious visits would stay below it
    assert asynchronous_mse(rate, q, s, 0.0) == pytest.approx(floor / q)
    assert exact > 3 * asynchronous_mse(rate, q, s, 0.0, steps, adaptive=False)


@given(rates, st.floats(0.01, 1), positives, positives, st.integers(1, 9))
def test_the_adaptive_bound_is_its_fixed_point(rate, q, s, drift, n):
    root = np.sqrt(asynchronous_mse(rate, q, s, drift, batch=n))
    again = (1 - q * rate * (2 - rate)) * (root + drift) ** 2 + rate**2 * s**2 / n
    assert root**2 == pytest.approx(again, rel=1e-9)
    assert asynchronous_mse(rate, q, s, drift, batch=n, adaptive=False) <= root**2 * (1 + 1e-9)
    assert asynchronous_mse(rate, q, s, drift, batch=n, when="next") == pytest.approx((root + drift) ** 2)


@pytest.mark.parametrize("prefer", [4.0, -4.0, 0.0])
def test_weighted_by_visits_nothing_selects(prefer):
    """Visits that depend on the estimate itself: both identities hold exactly."""
    rate, s, initial = 0.35, 1.4, -0.8
    tree = tree_of(rate, initial)
    effort = square = bias = 0.0
    for _ in range(6):
        visit = 1 / (1 + np.exp(-prefer * tree.error))
        effort += tree.mean(visit)
        square += tree.mean(visit * tree.error**2)
        bias += tree.mean(visit * tree.error)
        tree.step(0.0, visit, [(0.2, 2 * s), (0.8, -0.5 * s)])
    final_square, final = tree.mean(tree.error**2), tree.mean(tree.error)
    weighted = effort_weighted_mse(rate, s, effort, initial**2, final_square)
    assert square / effort == pytest.approx(weighted, rel=1e-9)
    assert bias / effort == pytest.approx(effort_weighted_bias(rate, effort, initial, final), rel=1e-9)
    assert square / effort <= effort_weighted_mse(rate, s, effort, initial**2)
    assert effort_weighted_mse(rate, s, batch=2) == pytest.approx(s**2 * rate / (2 - rate) / 2)


def test_an_allocator_that_prefers_large_estimates_makes_them_low():
    """Settled distribution of the error on a grid, noise of two points, visits proportional to 1 + slope·e."""
    rate, s, slope = 0.05, 0.5, 0.3
    grid = np.linspace(-1, 1, 401)
    move = np.zeros((grid.size, grid.size))
    visit = 0.5 * (1 + slope * grid)
    move[np.arange(grid.size), np.arange(grid.size)] += 1 - visit
    for sign in (1, -1):
        to = np.clip((1 - rate) * grid + rate * sign * s, -1, 1)
        low = np.minimum(((to + 1) / (grid[1] - grid[0])).astype(int), grid.size - 2)
        part = (to - grid[low]) / (grid[1] - grid[0])
        np.add.at(move, (np.arange(grid.size), low), visit / 2 * (1 - part))
        np.add.at(move, (np.arange(grid.size), low + 1), visit / 2 * part)
    chance = np.full(grid.size, 1 / grid.size)
    chance = chance @ np.linalg.matrix_power(move, 2**10)
    assert chance @ grid == pytest.approx(selection_bias(rate, s, slope), rel=0.05)


@given(st.integers(0, 10**9), st.floats(0.1, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_regions_that_drift_as_they_are_trained_need_no_floor(seed, rate, drift, shrink, initial):
    choose = np.random.default_rng(seed)
    level = 1.5
    coupled, loop = tree_of(rate, initial), tree_of(rate, initial + level)
    loop.target = loop.target + level
    totals = np.zeros((2, 2))
    for _ in range(5):
        for row, tree in enumerate((coupled, loop)):
            visit = choose.uniform(0, 1, tree.chance.size) ** 3
            totals[row] += tree.mean(visit), tree.mean(visit * tree.error**2)
            sign = np.where(tree.error >= 0, -1.0, 1.0)
            moved = drift * visit * sign if row == 0 else -shrink * visit * tree.target
            tree.step(moved, visit, scaled(0.7))
    effort, square = totals.T
    bound = coupled_drift_mse(rate, 0.7, drift, effort[0], initial)
    assert square[0] / effort[0] <= bound * (1 + 1e-9)
    if shrink > 0:
        bound = closed_loop_mse(rate, 0.7, level, shrink, effort[1], initial)
        assert square[1] / effort[1] <= bound * (1 + 1e-9)


@given(rates, positives, st.floats(1e-3, 1), st.floats(1, 1e5), st.floats(0, 10), st.integers(1, 5))
def test_coupled_bounds_solve_their_quadratics(rate, s, drift, effort, initial, n):
    kappa = rate * (2 - rate)
    c = np.sqrt(coupled_drift_mse(rate, s, drift, effort, initial, n))
    right = 2 * drift * c + drift**2 + rate**2 * s**2 / n + initial**2 / effort
    assert kappa * c**2 == pytest.approx(right, rel=1e-9)
    level = 3.0
    total = closed_loop_mse(rate, s, level, drift, effort, initial, n) * effort
    moved = drift * level**2 / (2 - drift)
    right = 2 * np.sqrt(moved * total) + moved + initial**2 + rate**2 * s**2 * effort / n
    assert kappa * total == pytest.approx(right, rel=1e-9)


# ----------------------------------------------------------------------------------------------------------------- T14


def test_importance_weighted_averages_pay_for_the_level():
    """All visit patterns and noise signs of five steps."""
    rate, q, s = 0.3, 0.4, 0.8
    levels = np.array([1.0, -2.0, 0.5, 3.0, 1.5])  # in order of time
    moments = np.array([[1.0, 0.0]])  # chance and estimate of each branch
    for mu in levels:
        branches = []
        for chance, signal in ((q / 2, mu + s), (q / 2, mu - s), (1 - q, 0.0)):
            branches.append(np.stack([chance * moments[:, 0], (1 - rate) * moments[:, 1] + rate * signal / q], 1))
        moments = np.concatenate(branches)
    chance, estimate = moments.T
    variance = chance @ estimate**2 - (chance @ estimate) ** 2
    assert variance == pytest.approx(weighted_variance(rate, q, s, levels[::-1]), rel=1e-9)
    settled = weighted_variance(rate, q, s, np.full(200, 2.0))
    assert settled == pytest.approx(weighted_mse(rate, q, s, 2.0), rel=1e-9)


@given(st.floats(0.01, 0.9), st.floats(0.1, 0.99), positives)
def test_break_even_is_where_both_are_alike(share, q, s):
    rate = share * q
    level = weighted_break_even(rate, q, s)
    assert level**2 == pytest.approx(rate * s**2 / (2 * q - rate), rel=1e-9)
    assert weighted_mse(rate, q, s, level) == pytest.approx(residual_mse(rate, q, s, 0.0), rel=1e-9)


def test_residual_weighting_is_exact_without_drift_whatever_is_selected():
    rate, s, q = 0.25, 1.1, 0.3
    tree = Tree(EMA(rate=rate, importance=True), initial=0.9)
    for _ in range(5):
        tree.step(0.0, q, scaled(s))
    assert tree.mean(tree.error**2) == pytest.approx(residual_mse(rate, q, s, 0.0, initial=0.9, steps=5), rel=1e-9)
    assert residual_mse(rate, q, s, 0.0, batch=3) == pytest.approx(rate * s**2 / (2 * q - rate) / 3)
    line = Tree(EMA(rate=rate, importance=True), initial=-0.9)
    for _ in range(5):
        line.step(0.3, q, scaled(s))
    exact = line.mean(line.error**2)
    assert exact == pytest.approx(residual_mse(rate, q, s, 0.3, 0.9, 5, adaptive=False), rel=1e-9)
    assert exact <= residual_mse(rate, q, s, 0.3, 0.9, 5)


@given(st.integers(0, 10**9), st.floats(0.05, 0.3), st.floats(0, 1))
def test_residual_weighting_is_safe_and_unbiased_under_adaptive_visits(seed, rate, drift):
    choose, q, s, initial = np.random.default_rng(seed), 0.3, 0.9, 0.6
    tree, still = (Tree(EMA(rate=rate, importance=True), initial=initial) for _ in range(2))
    for steps in range(1, 5):
        visit = np.where(tree.error > choose.uniform(-1, 1), q, choose.uniform(q, 1, tree.chance.size))
        tree.step(-drift * np.sign(tree.error), visit, scaled(s))
        assert tree.mean(tree.error**2) <= residual_mse(rate, q, s, drift, initial, steps) * (1 + 1e-9)
        still.step(0.0, np.where(still.error > 0, 1.0, q), scaled(s))
        assert still.mean(still.error) == pytest.approx((1 - rate) ** steps * initial, rel=1e-9)
