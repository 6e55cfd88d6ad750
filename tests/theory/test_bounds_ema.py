"""T3, T4, T6 to T9: best rates against grids, constants, the numbers quoted, and what a wrong model costs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aria.trackers import CertificateGain, Kalman
from tests.theory.exact import certificate, run
from theory.bounds import (
    ADAPTIVE_CONSTANT,
    LINE_CONSTANT,
    PRICE_OF_ADAPTIVITY,
    bank_mean_regret,
    bank_regret,
    certificate_gain_mse,
    certificate_gain_rate,
    ema_best_mse,
    ema_best_rate,
    ema_mse,
    ema_mse_random_walk,
    ema_small_drift_mse,
    ema_small_drift_rate,
    kalman_mse,
    kalman_reading,
    kalman_steady,
    line_reading,
    mse,
    off_optimum_loss,
    price_of_adaptivity,
    rice_range,
    rice_variance,
    window_best_mse,
    window_best_size,
    window_mse,
)

rates, positives = st.floats(1e-6, 1), st.floats(1e-4, 1e3)
MODES = [dict(when=when, adaptive=adaptive) for when in ("now", "next") for adaptive in (True, False)]


# -------------------------------------------------------------------------------------------------------------- T3


@given(rates, positives, positives, st.integers(1, 50))
def test_settled_bounds_are_their_formulas(rate, s, drift, n):
    keep, variance = 1 - rate, s**2 / n
    line = (drift * keep / rate) ** 2 + variance * rate / (2 - rate)
    ahead = (drift / rate) ** 2 + variance * rate / (2 - rate)
    assert ema_mse(rate, s, drift, batch=n, adaptive=False) == pytest.approx(line)
    assert ema_mse(rate, s, drift, batch=n, when="next", adaptive=False) == pytest.approx(ahead)
    root = np.sqrt(ema_mse(rate, s, drift, batch=n))
    assert root**2 == pytest.approx(keep**2 * (root + drift) ** 2 + rate**2 * variance, rel=1e-9)
    assert ema_mse(rate, s, drift, batch=n, when="next") == pytest.approx((root + drift) ** 2)
    walk = (keep**2 * drift**2 + rate**2 * variance) / (rate * (2 - rate))
    assert ema_mse_random_walk(rate, s, drift, n) == pytest.approx(walk)


@given(rates, positives, positives)
def test_adaptivity_costs_a_third_at_most(rate, s, drift):
    assert 1 - 1e-12 <= price_of_adaptivity(rate, s, drift) <= PRICE_OF_ADAPTIVITY + 1e-12


def test_a_third_is_the_price_at_the_optimum():
    rate = 1e-5
    drift = rate * np.sqrt(rate / (2 - rate) / 2) / (1 - rate)
    assert price_of_adaptivity(rate, 1.0, drift) == pytest.approx(4 / 3, rel=1e-4)
    assert price_of_adaptivity(0.5, 1.0, 0.0) == pytest.approx(1)
    assert price_of_adaptivity(1.0, 1.0, 7.0) == pytest.approx(1)


@given(rates, positives, positives, st.floats(0.01, 100), st.floats(0, 10), st.sampled_from(MODES))
def test_bounds_scale_with_the_square_of_the_units(rate, s, drift, unit, initial, mode):
    once = ema_mse(rate, s, drift, 7, initial, **mode)
    assert ema_mse(rate, unit * s, unit * drift, 7, unit * initial, **mode) == pytest.approx(unit**2 * once, rel=1e-9)


@given(rates, positives, positives, st.floats(0, 10), st.integers(0, 30), st.sampled_from(MODES))
def test_bounds_grow_with_what_makes_tracking_hard(rate, s, drift, initial, steps, mode):
    once = ema_mse(rate, s, drift, steps, initial, **mode)
    for more in (
        ema_mse(rate, 1.1 * s, drift, steps, initial, **mode),
        ema_mse(rate, s, 1.1 * drift, steps, initial, **mode),
        ema_mse(rate, s, drift, steps, initial + 1, **mode),
        ema_mse(rate, s, drift, steps, initial, **mode | {"when": "next"}),
        ema_mse(rate, s, drift, steps, initial, **mode | {"adaptive": True}),
    ):
        assert more >= once * (1 - 1e-12)
    assert ema_mse(rate, s, drift, steps, initial, batch=2, **mode) <= once * (1 + 1e-12)


@pytest.mark.parametrize("initial", [0.0, 3.0])
@pytest.mark.parametrize("rate", [1e-5, 1e-3, 0.3])
def test_long_runs_without_closed_form_stay_bounds(rate, initial):
    """Beyond 4096 steps: above the recursion, below what the decomposition gives, and settled in the end."""
    from theory.bounds import ema_profile

    steps, v = 20_000, initial
    for _ in range(steps):
        v = np.hypot((1 - rate) * (v + 0.02), rate)
    bound = ema_mse(rate, 1.0, 0.02, steps, initial)
    assert v**2 * (1 - 1e-9) <= bound <= mse(ema_profile(rate, steps), 1.0, 0.02, initial) * (1 + 1e-9)
    assert ema_mse(rate, 1.0, 0.02, 2**50, initial) == pytest.approx(ema_mse(rate, 1.0, 0.02), rel=1e-9)


# ---------------------------------------------------------------------------------------------------- T4, T6: optima

GRID = np.linspace(1e-4, 1, 200_001)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("rho", [0.003, 0.05, 0.4, 1.0, 5.0])
def test_best_rates_beat_every_grid(rho, mode):
    losses = ema_mse(GRID, 2.0, 2 * rho / np.sqrt(3), batch=3, **mode)
    best = ema_best_mse(2.0, 2 * rho / np.sqrt(3), batch=3, **mode)
    assert best <= losses.min() * (1 + 1e-9)
    assert best == pytest.approx(losses.min(), rel=1e-6)
    assert ema_best_rate(2.0, 2 * rho / np.sqrt(3), batch=3, **mode) == pytest.approx(GRID[losses.argmin()], abs=1e-5)


@given(st.floats(1e-9, 1e4))
def test_best_rates_solve_their_equations(rho):
    b = ema_best_rate(1.0, rho, adaptive=False)
    assert b**3 == pytest.approx(rho**2 * (1 - b) * (2 - b) ** 2, rel=1e-6)
    b = ema_best_rate(1.0, rho, when="next", adaptive=False)
    assert b == 1 if rho > 1 else b**3 == pytest.approx(rho**2 * (2 - b) ** 2, rel=1e-9)
    angle = np.arcsin(np.sqrt(ema_best_rate(1.0, min(rho, 30.0))))
    assert np.tan(angle) - np.sin(angle) == pytest.approx(min(rho, 30.0), rel=1e-6, abs=1e-15)
    assert ema_best_mse(1.0, rho) == pytest.approx(ema_best_rate(1.0, rho), rel=1e-6)  # b·s², at any ρ


def test_small_drift_constants():
    assert pytest.approx(1.1906, abs=5e-5) == LINE_CONSTANT
    assert pytest.approx(1.5874, abs=5e-5) == ADAPTIVE_CONSTANT
    assert pytest.approx(4 / 3 * LINE_CONSTANT) == ADAPTIVE_CONSTANT
    for mode in MODES:
        drift = 1e-9
        best = ema_best_mse(2.0, drift, batch=4, **mode)
        assert ema_small_drift_mse(2.0, drift, batch=4, adaptive=mode["adaptive"]) == pytest.approx(best, rel=1e-5)
        assert best == pytest.approx((1.5874 if mode["adaptive"] else 1.1906) * drift ** (2 / 3), rel=1e-4)
        assert ema_best_rate(2.0, drift, batch=4, **mode) == pytest.approx((2 * drift) ** (2 / 3), rel=1e-5)
    assert ema_small_drift_rate(2.0, 1e-3, batch=4) == pytest.approx(2e-3 ** (2 / 3))
    assert window_best_mse(1.0, 1e-9, adaptive=False) == pytest.approx(1.1906 * 1e-6, rel=1e-4)
    assert window_best_mse(1.0, 1e-9) == pytest.approx(2.25 * 1e-6, rel=1e-4)


def test_quoted_example():
    assert ema_best_rate(1.0, 0.05, adaptive=False) == pytest.approx(0.18817, abs=5e-6)
    assert ema_best_mse(1.0, 0.05, adaptive=False) == pytest.approx(0.15039, abs=5e-6)
    assert ema_best_mse(1.0, 0.05, adaptive=False) / 0.05 ** (2 / 3) == pytest.approx(1.108, abs=5e-4)
    assert ema_best_rate(1.0, 0.05, when="next", adaptive=False) == pytest.approx(0.20077, abs=5e-6)
    assert ema_best_mse(1.0, 0.05, when="next", adaptive=False) == pytest.approx(0.17361, abs=5e-6)


@pytest.mark.parametrize(("factor", "loss"), [(2, 1.417), (0.5, 1.667), (2**0.5, 1.109), (2**-0.5, 1.138), (1, 1.0)])
def test_what_a_wrong_rate_costs(factor, loss):
    assert off_optimum_loss(factor) == pytest.approx(loss, abs=5e-4)
    drift = 1e-8
    wrong = ema_mse(factor * ema_best_rate(1.0, drift, adaptive=False), 1.0, drift, adaptive=False)
    assert wrong / ema_best_mse(1.0, drift, adaptive=False) == pytest.approx(off_optimum_loss(factor), rel=1e-4)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("rho", [1e-3, 0.02, 0.3, 1.0, 4.0])
def test_best_windows_beat_every_other(rho, mode):
    sizes = np.arange(1, 2000)
    losses = window_mse(sizes, 3.0, 3 * rho / np.sqrt(2), batch=2, **mode)
    assert window_best_size(3.0, 3 * rho / np.sqrt(2), batch=2, **mode) == sizes[losses.argmin()]
    assert window_best_mse(3.0, 3 * rho / np.sqrt(2), batch=2, **mode) == pytest.approx(losses.min(), rel=1e-12)


def test_nothing_moves_or_nothing_is_noisy():
    for mode in MODES:
        assert ema_best_rate(1.0, 0.0, **mode) == 0 and ema_best_mse(1.0, 0.0, **mode) == 0
        assert ema_best_rate(0.0, 1.0, **mode) == 1
        assert ema_best_mse(0.0, 1.0, **mode) == pytest.approx(1.0 if mode["when"] == "next" else 0.0)
        assert window_best_size(1.0, 0.0, **mode) == np.inf and window_best_mse(1.0, 0.0, **mode) == 0
        assert window_best_size(0.0, 1.0, **mode) == 1
    assert (certificate_gain_rate(1.0, 0.0), certificate_gain_rate(0.0, 1.0)) == (0, 1)
    assert certificate_gain_mse(1.0, 0.0) == 0
    assert kalman_steady(1.0, 0.0).gain == 0 and kalman_steady(0.0, 1.0).gain == 1


# ------------------------------------------------------------------------------------------------------------ T7, T8


@given(st.floats(1e-2, 1e2), st.floats(1e-4, 1e2), st.integers(1, 20))
def test_the_settled_filter_solves_the_riccati_equation(s, step, n):
    steady = kalman_steady(s, step, n)
    variance = s**2 / n
    assert steady.predicted == pytest.approx(steady.posterior + step**2)
    assert steady.gain == pytest.approx(steady.predicted / (steady.predicted + variance), rel=1e-9)
    assert 1 / steady.posterior == pytest.approx(1 / steady.predicted + 1 / variance, rel=1e-9)
    assert steady.posterior == pytest.approx(ema_mse_random_walk(steady.gain, s, step, n), rel=1e-6)
    assert steady.innovation == pytest.approx(steady.predicted + variance)
    reading = kalman_reading(steady.gain, steady.innovation)
    assert reading == pytest.approx((np.sqrt(variance), step), rel=1e-5)
    others = ema_mse_random_walk(np.linspace(1e-3, 1, 999), s, step, n)
    assert steady.posterior <= others.min() * (1 + 1e-12)


def test_the_shipped_filter_knows_its_mean_square():
    visits = np.array([1, 0, 3, 1, 0, 0, 2, 1])
    tracker = Kalman(sigma=1.3, drift=0.4)
    state = run(tracker, np.zeros((1, 8)), visits > 0, np.maximum(visits, 1))
    assert kalman_mse(1.3, 0.4, visits) == pytest.approx(tracker.estimate(state).stderr.item() ** 2, rel=1e-9)
    assert kalman_mse(1.3, 0.4, np.ones(500)) == pytest.approx(kalman_steady(1.3, 0.4).posterior, rel=1e-9)
    assert kalman_mse(1.0, 0.5, [0, 0], initial=2.0) == pytest.approx(2.5)
    assert kalman_mse(1.0, 0.5, [0, 0]) == np.inf


@pytest.mark.parametrize(("rho", "mistaken", "best", "times"), [(0.01, 0.995, 0.0539, 18), (0.003, 0.9985, 0.0245, 41)])
def test_a_filter_for_a_walk_is_lost_on_a_line(rho, mistaken, best, times):
    gain = kalman_steady(1.0, rho).gain
    assert ema_mse(gain, 1.0, rho, adaptive=False) == pytest.approx(mistaken, abs=5e-4)
    assert ema_best_mse(1.0, rho, adaptive=False) == pytest.approx(best, abs=5e-5)
    assert mistaken / best == pytest.approx(times, abs=0.6)


def test_an_average_for_a_line_is_slow_on_a_walk():
    rate = ema_best_rate(1.0, 0.01, adaptive=False)
    assert ema_mse_random_walk(rate, 1.0, 0.01) == pytest.approx(0.0370, abs=5e-5)
    assert kalman_steady(1.0, 0.01).posterior == pytest.approx(0.0100, abs=5.1e-5)


@pytest.mark.parametrize("rho", [0.003, 0.05, 0.5, 2.0])
def test_the_shipped_certificate_gain_settles_where_it_should(rho):
    tracker = CertificateGain(sigma=2.0, drift=rho)
    settled = certificate(tracker, run(tracker, np.zeros((1, 3000)), count=np.full(3000, 4.0)))
    rate = certificate_gain_rate(2.0, rho, batch=4)  # four observations: s/√n = 1
    assert 1 / (1 + settled.lag) == pytest.approx(rate, rel=1e-9)
    for mode in MODES[1::2]:
        assert certificate_gain_mse(2.0, rho, 4, **mode) == pytest.approx(mse(settled, 2.0, rho, **mode), rel=1e-9)
    assert certificate_gain_mse(2.0, rho, 4) == pytest.approx(ema_mse(rate, 2.0, rho, batch=4))


@given(st.floats(1e-9, 1.0))
def test_the_certificate_gain_is_nearly_the_best(rho):
    best = ema_best_mse(1.0, rho, adaptive=False)
    assert (
        best <= certificate_gain_mse(1.0, rho, adaptive=False) * (1 + 1e-12) <= (1.01 if rho < 1 / 3 else 1.021) * best
    )


def test_half_the_doubt_would_cost_six_per_cent():
    greedy = 2 ** (1 / 3) * (1e-9) ** (2 / 3)
    loss = ema_mse(greedy, 1.0, 1e-9, adaptive=False) / ema_best_mse(1.0, 1e-9, adaptive=False)
    assert loss == pytest.approx(1.058, abs=5e-4)


# ----------------------------------------------------------------------------------------------------------------- T9


@given(st.floats(1e-6, 0.999), st.floats(0.1, 10))
def test_a_line_is_read_back_from_the_best_predictor(rho, s):
    rate = ema_best_rate(s, rho * s, when="next", adaptive=False)
    innovation = s**2 + ema_best_mse(s, rho * s, when="next", adaptive=False)
    assert line_reading(rate, innovation) == pytest.approx((s, rho * s), rel=1e-6)


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=30),
    st.sampled_from([1.0, 0.9, 0.5]),
)
def test_the_mixture_pays_no_more_than_its_regret(rounds, gamma):
    """On every sequence of observations and three experts in [0, 2]: the statement before expectations are taken."""
    losses, mixture, weight = np.zeros(3), 0.0, 0.0
    for observation, *experts in 2 * np.array(rounds):
        belief = np.exp(-gamma * (losses - losses.min()) / (2 * 2.0**2))
        forecast = belief @ experts / belief.sum()
        mixture = gamma * mixture + (forecast - observation) ** 2
        losses = gamma * losses + (np.array(experts) - observation) ** 2
        weight = gamma * weight + 1
    excess = mixture - losses.min()
    assert excess <= bank_regret(2.0, 3) + 1e-9
    assert excess / weight <= bank_mean_regret(2.0, 3, 1 - gamma, len(rounds)) + 1e-9


def test_regret_is_its_formula():
    assert bank_regret(2.0, 3) == pytest.approx(8 * np.log(3))
    assert bank_mean_regret(2.0, 3, 0.0, 40) == pytest.approx(8 * np.log(3) / 40)
    assert bank_mean_regret(2.0, 3, 0.1, 40) == pytest.approx(8 * np.log(3) / sum(0.9**j for j in range(40)))
    assert bank_mean_regret(2.0, 3, 0.1) == pytest.approx(0.8 * np.log(3))


def test_rice_reads_the_noise_off_a_line():
    """The exact expectation over all signs of the noise of five observations."""
    from tests.theory.exact import signs

    s, drift = 0.7, 0.4
    lines = drift * np.arange(5) + s * signs(5)
    assert rice_variance(lines).mean() == pytest.approx(rice_range(s, drift, adaptive=False)[1])
    assert rice_variance(s * signs(5)).mean() == pytest.approx(rice_range(s, drift, adaptive=False)[0])
    assert rice_variance(lines, order=2).mean() == pytest.approx(s**2)


@pytest.mark.parametrize("drift", [0.4, 0.7, 1.1])
def test_drift_that_follows_the_noise_hides_or_doubles_it(drift):
    """The range for paths that do not look at the noise is left at either end, and the adaptive one attained."""
    from tests.theory.exact import signs

    s, pairs = 0.7, signs(2)
    low, high = rice_range(s, drift)
    for sign, end in ((1, low), (-1, high)):
        step = np.minimum(drift, s) if sign > 0 else drift  # no further than onto the observation
        followed = np.stack([s * pairs[:, 0], sign * step * pairs[:, 0] + s * pairs[:, 1]], axis=1)
        assert rice_variance(followed).mean() == pytest.approx(end)
    assert low < rice_range(s, drift, adaptive=False)[0] and high > rice_range(s, drift, adaptive=False)[1]
