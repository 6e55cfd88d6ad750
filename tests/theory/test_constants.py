"""The constants of the bounds, each by a value that depends on it: another arithmetic, or an identity."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from theory import bounds, limits
from theory.bounds import _numerics, linear, radius

DEFAULTS = {
    "adaptive": True, "against": "linear", "allocation": None,
    "base": None, "batch": 1, "block": None, "effort": math.inf, "exact": True,
    "exponent": 0.5, "power": 1.0, "transfer": 0.0,
    "final": 0.0, "final_square": 0.0, "first": 0, "floor": 0.0, "forget": 0.0, "initial": 0.0, "initial_square": 0.0,
    "largest_weight": None, "mean_step": 0.0, "order": 1, "prior": "best", "regions": 1, "start": 0.0,
    "steps": math.inf, "times": 1, "visit_rate": 1.0, "when": "now",
}  # fmt: skip
"""What an argument means where it is left out, the same in every function."""
EXCEPTIONS = {("kalman_mse", "initial"): math.inf, ("lag_from_longest_gap", "steps"): 1}
FUNCTIONS = [
    function
    for module in (bounds, limits, linear)
    for _, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__.startswith(("theory.bounds", "theory.limits")) and not function.__name__.startswith("_")
]


@pytest.mark.parametrize("function", dict.fromkeys(FUNCTIONS), ids=lambda function: function.__name__)
def test_defaults(function):
    """Nothing to start with, one observation at every step, settled: whoever says nothing gets the plain statement."""
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            assert parameter.default == EXCEPTIONS.get((function.__name__, name), DEFAULTS[name])


def test_a_default_left_out_is_the_default_written():
    assert bounds.kalman_mse(1.0, 0.0, [0]) == math.inf


# ------------------------------------------------------------------------------------------------------------- effort


def test_effort_by_hand():
    F = 0.5 / 1.5 * 9 / 2
    assert bounds.effort_weighted_mse(0.5, 3.0, 10.0, 4.0, 1.0, batch=2) == pytest.approx(F + 3 / (0.75 * 10))
    assert bounds.effort_weighted_bias(0.5, 10.0, initial=3.0, final=1.0) == pytest.approx(0.4)
    assert bounds.selection_bias(0.5, 3.0, 0.8, batch=2) == pytest.approx(-0.8 * F)


def test_coupled_bounds_solve_their_quadratics():
    b, s, d, e0, effort, n = 0.3, 2.0, 0.7, 1.5, 5.0, 2
    kappa = b * (2 - b)
    c = math.sqrt(bounds.coupled_drift_mse(b, s, d, effort, e0, n))
    assert kappa * c**2 == pytest.approx(2 * d * c + b**2 * s**2 / n + d**2 + e0**2 / effort, rel=1e-12)
    mu, shrink = 3.0, 0.4
    moved = shrink * mu**2 / (2 - shrink)
    c = math.sqrt(effort * bounds.closed_loop_mse(b, s, mu, shrink, effort, e0, n))
    right = 2 * math.sqrt(moved) * c + e0**2 + moved + b**2 * s**2 * effort / n
    assert kappa * c**2 == pytest.approx(right, rel=1e-12)


# --------------------------------------------------------------------------------------------------------- allocations


def test_allocations_by_hand():
    p, q, m = [0.2, 0.3, 0.5], [0.5, 0.25, 0.25], [3.0, 0.5, 2.0]
    total = 0.6 + 0.15 + 1.0
    second = 0.36 / 0.5 + 0.0225 / 0.25 + 1 / 0.25
    assert bounds.importance_second_moment(p, q, m) == pytest.approx(second, rel=1e-12)
    assert bounds.best_second_moment(p, m) == pytest.approx(total**2, rel=1e-12)
    assert bounds.allocation_loss(p, q, m) == pytest.approx(second / total**2 - 1, rel=1e-12)
    assert bounds.importance_bias(p, [1.0, 0.0, 0.0], [3.0, 0.5, 2.0]) == pytest.approx(-1.15)
    assert bounds.importance_bias(p, [0.9, 0.05, 0.05], [3.0, 0.5, 2.0]) == 0
    assert bounds.importance_second_moment([0.5, 0.5], [1.0, 0.0], [3.0, 0.0]) == pytest.approx(2.25)
    assert bounds.importance_second_moment([0.5, 0.5], [1.0, 0.0], [3.0, 0.01]) == math.inf
    assert bounds.importance_second_moment([0.5, 0.5], [0.96, 0.04], [0.0, 2.0]) == pytest.approx(25)
    assert bounds.misallocation_factor(0.3, floor=0.2) == pytest.approx(1 / (0.91 * 0.8), rel=1e-12)
    assert bounds.floor_second_moment(p, m, 0.2) == pytest.approx(5 * (0.2 * 9 + 0.3 * 0.25 + 0.5 * 4), rel=1e-12)
    assert bounds.floor_cost([1.0, 0.0, 3.0], 0.1) == pytest.approx(0.1 * (3 - 4 / 3))


def test_shifts_by_hand():
    assert bounds.total_variation(*np.array([[0.2, 0.3, 0.5], [0.5, 0.25, 0.25]])) == pytest.approx(0.3)
    assert bounds.proportional_shift(1.0, 4.0, 5.0, floor=0.3) == pytest.approx(0.14)
    assert bounds.proportional_shift(100.0, 4.0, 5.0) == 1
    assert bounds.relative_shift(0.6, floor=0.4) == pytest.approx(0.6 * (1 - 0.8) / 0.6)
    assert bounds.softmax_shift(0.3, 0.5, floor=0.4) == pytest.approx(0.6 * math.tanh(0.3))
    assert bounds.expected_shift([4.0, 9.0], total=2.0) == 1
    assert bounds.expected_shift([0.04, 0.09], total=2.0) == pytest.approx(0.25)


# ------------------------------------------------------------------------------------------------------ random visits


def simulated_moments(b, q, s, d, t, e0, n):
    """Mean square of the error after t steps of a steady drift, by its recursion in plain numbers."""
    mean, square = e0, e0**2
    for _ in range(t):
        mean, square = mean + d, square + 2 * d * mean + d**2
        square = (1 - q) * square + q * ((1 - b) ** 2 * square + b**2 * s**2 / n)
        mean = (1 - q * b) * mean
    return mean, square


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 8])
def test_moments_under_random_visits(steps):
    b, q, s, d, e0, n = 0.4, 0.3, 2.0, 0.25, 0.6, 2
    mean, square = simulated_moments(b, q, s, d, steps, e0, n)
    args = dict(steps=steps, initial=e0, batch=n, adaptive=False)
    assert bounds.asynchronous_mse(b, q, s, d, **args) == pytest.approx(square, rel=1e-12)
    ahead = square + 2 * d * mean + d**2
    assert bounds.asynchronous_mse(b, q, s, d, **args, when="next") == pytest.approx(ahead, rel=1e-12)


def test_settled_forms_under_random_visits():
    b, q, s, d, n = 0.4, 0.3, 2.0, 0.25, 2
    mean, square = simulated_moments(b, q, s, d, 2000, 0.0, n)
    assert bounds.asynchronous_mse(b, q, s, d, batch=n, adaptive=False) == pytest.approx(square, rel=1e-9)
    ahead = square + 2 * d * mean + d**2
    mode = dict(batch=n, adaptive=False)
    assert bounds.asynchronous_mse(b, q, s, d, **mode, when="next") == pytest.approx(ahead, rel=1e-9)
    visited = (1 - b) ** 2 * ahead + b**2 * s**2 / n
    assert bounds.asynchronous_mse(b, q, s, d, **mode, when="visit") == pytest.approx(visited, rel=1e-9)
    kappa, tau = b * (2 - b), 0.7
    walk = (1 - q * kappa) * tau**2 / (q * kappa) + b / (2 - b) * s**2 / n
    assert bounds.asynchronous_mse_random_walk(b, q, s, tau, n) == pytest.approx(walk, rel=1e-12)


def test_adaptive_recursion_under_random_visits():
    b, q, s, d, e0, n = 0.4, 0.3, 2.0, 0.25, 0.6, 2
    kappa, v = b * (2 - b), e0
    for _ in range(5):
        v = math.sqrt((1 - q * kappa) * (v + d) ** 2 + b**2 * s**2 / n)
    assert bounds.asynchronous_mse(b, q, s, d, 5, e0, n) == pytest.approx(v**2, rel=1e-12)
    assert bounds.asynchronous_mse(b, q, s, d, 5, e0, n, when="next") == pytest.approx((v + d) ** 2, rel=1e-12)
    loss, v = b * (2 - b / 0.5), e0
    for _ in range(5):
        v = math.sqrt((1 - loss) * (v + d) ** 2 + b**2 * s**2 / (0.5 * n))
    assert bounds.residual_mse(b, 0.5, s, d, e0, 5, n) == pytest.approx(v**2, rel=1e-12)


@pytest.mark.parametrize("when", ["now", "next", "visit"])
def test_best_rates_under_random_visits_are_minima(when):
    q, s, d, n = 0.3, 2.0, 0.05, 2
    for adaptive in (True, False) if when != "visit" else (False,):
        mode = dict(batch=n, when=when, adaptive=adaptive)
        if adaptive:  # the root is that of the error just before the next observation and of the one just after
            mode["when"] = "now"
        best = minimize_scalar(
            lambda u, mode=mode: bounds.asynchronous_mse(math.exp(u), q, s, d, **mode),
            bounds=(-8, 0), method="bounded", options={"xatol": 1e-9},
        )  # fmt: skip
        rate = bounds.asynchronous_best_rate(q, s, d, **mode)
        assert rate == pytest.approx(math.exp(best.x), rel=1e-4)
        assert bounds.asynchronous_best_mse(q, s, d, **mode) == pytest.approx(best.fun, rel=1e-9)
    rho = d * math.sqrt(n) / s
    b = bounds.asynchronous_best_rate(q, s, d, n)
    assert rho == pytest.approx(math.sqrt(b / (q * (1 - b))) * (1 - math.sqrt(1 - b * q)), rel=1e-9)


def test_without_drift_the_best_is_to_average_for_ever():
    """Exactly 0, not a rate near it; and a drift of a tenth of the noise is no such case."""
    for adaptive in (True, False):
        assert bounds.asynchronous_best_rate(0.3, 2.0, 0.0, adaptive=adaptive) == 0
        assert bounds.asynchronous_best_mse(0.3, 2.0, 0.0, adaptive=adaptive) == 0
        assert bounds.asynchronous_best_rate(1.0, 1.0, 0.1, adaptive=adaptive) > 0.1
        assert bounds.ema_best_rate(2.0, 0.0, adaptive=adaptive) == 0
        assert bounds.ema_best_mse(2.0, 0.0, adaptive=adaptive) == 0
        assert bounds.ema_best_rate(1.0, 0.1, adaptive=adaptive) > 0.1
        assert bounds.certificate_gain_mse(2.0, 0.0, adaptive=adaptive) == 0
    assert bounds.certificate_gain_rate(2.0, 0.0) == 0 < bounds.certificate_gain_rate(1.0, 0.1)
    assert bounds.kalman_steady(2.0, 0.0) == (0.0, 0.0, 0.0, 4.0)
    assert bounds.kalman_steady(1.0, 0.05).gain == pytest.approx((-0.0025 + math.sqrt(0.0025**2 + 0.01)) / 2)


def test_what_no_bound_covers_is_refused():
    with pytest.raises(ValueError, match="rate must be below twice visit_rate, got 0.21"):
        bounds.residual_mse(0.21, 0.1, 1.0, 0.0)
    with pytest.raises(ValueError, match="gains must have a last axis of steps, got 0.5"):
        bounds.mse_recursion(0.5, 1.0, 0.0)


def test_random_batches():
    size, pi = 7, 0.2
    chance = [math.comb(size, k) * pi**k * (1 - pi) ** (size - k) for k in range(size + 1)]
    inverse = sum(c / k for k, c in enumerate(chance) if k)
    assert bounds.random_visit_rate(size, pi) == pytest.approx(1 - chance[0], rel=1e-12)
    assert bounds.effective_batch(size, pi) == pytest.approx((1 - chance[0]) / inverse, rel=1e-12)
    two = 1 - 0.8**8 - 8 * 0.2 * 0.8**7
    rough = max((1 - chance[0]) / (2 * two / (8 * pi)), 1)
    assert bounds.effective_batch(size, pi, exact=False) == pytest.approx(rough, rel=1e-12)
    assert bounds.effective_batch(40, 0.5, exact=False) == pytest.approx(1 / (2 / (41 * 0.5)), rel=1e-6)
    assert bounds.effective_batch(1, 0.5) == 1 == bounds.effective_batch(1, 0.5, exact=False)
    assert bounds.effective_batch(10**6, 1e-6) > 1
    with pytest.raises(ValueError, match="batch must be at most 10"):
        bounds.effective_batch(10**6 + 1, 0.5)


# --------------------------------------------------------------------------------- averages, filters, banks, detectors


def test_linear_trackers_by_hand():
    profile = bounds.Profile(0.2, 1.5, 0.4, 0.9)
    assert bounds.mse_random_walk(profile, 2.0, 3.0, 0.5, 1.4) == pytest.approx(0.47**2 + 9 * 0.9 + 4 * 0.4, rel=1e-12)
    bias = 0.2 * 1.4 + 0.5 * 1.5
    assert bounds.mse(profile, 2.0, 0.5, 1.4, adaptive=False) == pytest.approx(bias**2 + 1.6, rel=1e-12)
    assert bounds.mse(profile, 2.0, 0.5, 1.4) == pytest.approx((bias + math.sqrt(1.6)) ** 2, rel=1e-12)
    assert bounds.mse(profile, 2.0, 0.5, 1.4, "next") == pytest.approx((bias + 0.5 + math.sqrt(1.6)) ** 2, rel=1e-12)
    noise = 4 * 0.4 / 1.6 / 2
    delta = 0.6 / 0.4 * 0.3
    assert bounds.path_mse(0.4, 2.0, 0.09, 2) == pytest.approx((delta + math.sqrt(noise)) ** 2, rel=1e-12)
    assert bounds.path_mse(0.4, 2.0, 0.09, 2, adaptive=False) == pytest.approx(delta**2 + noise, rel=1e-12)
    v = 1.4
    for gain, n in ((1.0, 1), (0.5, 3), (0.0, 1), (0.4, 2)):
        v = math.sqrt((1 - gain) ** 2 * (v + 0.5) ** 2 + gain**2 * 4 / n)
    assert bounds.mse_recursion([1.0, 0.5, 0.0, 0.4], 2.0, 0.5, [1, 3, 1, 2], 1.4) == pytest.approx(v**2, rel=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("b", [0.05, 0.4])
def test_corrected_averages_by_their_weights(b, steps):
    weights = b * (1 - b) ** np.arange(steps) / (1 - (1 - b) ** steps)
    assert bounds.corrected_ema_profile(b, steps, 2) == pytest.approx(bounds.profile_of_weights(weights, 2), rel=1e-9)


@pytest.mark.parametrize("width", [0.3, 1.0, 1.7, 2.0, 5.25, 11.9])
def test_triangles_by_their_weights(width):
    f = np.maximum(width - np.arange(int(width) + 2), 0.0)
    ages = np.arange(f.size)
    for first in (0, 1):
        total, square, moment = linear.triangle_sums(np.asarray(width), first)
        assert (total, square) == pytest.approx((f[first:].sum(), (f[first:] ** 2).sum()), rel=1e-12, abs=1e-12)
        assert moment == pytest.approx((ages * f).sum(), rel=1e-12, abs=1e-12)
    expected = bounds.profile_of_weights(f / f.sum(), 2)
    assert bounds.triangular_profile(width, 2) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_weights_must_sum_to_one_but_for_rounding():
    assert linear.tail_sums([0.5, 0.5 - 1e-9 * 0.99]).shape == (2,)
    with pytest.raises(ValueError, match="weights and start must sum to 1"):
        linear.tail_sums([0.5, 0.5 - 1e-9 * 1.05])


def test_moving_averages_by_hand():
    b, s, tau, n = 0.4, 2.0, 3.0, 2
    walk = (0.36 * 9 + 0.16 * 4 / n) / (b * 1.6)
    assert bounds.ema_mse_random_walk(b, s, tau, n) == pytest.approx(walk, rel=1e-12)
    kappa, a = b * (2 - b), 1 - b
    c = (a**2 * tau + math.sqrt(a**2 * tau**2 + kappa * b**2 * s**2 / n)) / kappa
    assert bounds.ema_mse(b, s, tau, batch=n) == pytest.approx(c**2, rel=1e-12)
    assert bounds.ema_mse(b, s, tau, batch=n, when="next") == pytest.approx((c + tau) ** 2, rel=1e-12)
    v = 1.5
    for _ in range(6):
        v = math.sqrt(a**2 * (v + tau) ** 2 + b**2 * s**2 / n)
    assert bounds.ema_mse(b, s, tau, 6, 1.5, n) == pytest.approx(v**2, rel=1e-12)
    worst, fixed = bounds.ema_mse(b, s, tau), bounds.ema_mse(b, s, tau, adaptive=False)
    assert bounds.price_of_adaptivity(b, s, tau) == pytest.approx(worst / fixed, rel=1e-12)
    assert bounds.price_of_adaptivity(b, 0.1, 0.1) == pytest.approx(bounds.price_of_adaptivity(b, 1.0, 1.0), rel=1e-9)


def test_constants_of_averages():
    """Least of F + D²/b² where F = b/2: at b³ = 4D²; the adaptive one at b³ = 4D² as well."""
    assert pytest.approx(3 * 2 ** (-4 / 3), rel=1e-15) == bounds.LINE_CONSTANT
    assert pytest.approx(2 ** (2 / 3), rel=1e-15) == bounds.ADAPTIVE_CONSTANT
    assert pytest.approx(4 / 3, rel=1e-15) == bounds.PRICE_OF_ADAPTIVITY
    s, d, n = 3.0, 1e-9, 2
    for adaptive in (True, False):
        small = bounds.ema_small_drift_mse(s, d, n, adaptive=adaptive)
        assert small == pytest.approx(bounds.ema_best_mse(s, d, n, adaptive=adaptive), rel=1e-4)
        rate = bounds.ema_small_drift_rate(s, d, n)
        assert rate == pytest.approx(bounds.ema_best_rate(s, d, n, adaptive=adaptive), rel=1e-4)
    assert bounds.off_optimum_loss(3.0) == pytest.approx((1 / 9 + 6) / 3)


@pytest.mark.parametrize("rho", [0.02, 0.5, 4.0])
def test_best_rates_solve_their_equations(rho):
    s, n = 2.0, 4
    d = rho * s / 2
    found = bounds.ema_best_rate(s, d, n)
    assert rho == pytest.approx(math.sqrt(found) * (1 / math.sqrt(1 - found) - 1), rel=1e-9)
    assert bounds.ema_best_mse(s, d, n) == pytest.approx(found * s**2 / n, rel=1e-9)
    found = bounds.ema_best_rate(s, d, n, adaptive=False)
    assert found**3 == pytest.approx(rho**2 * (1 - found) * (2 - found) ** 2, rel=1e-9)
    found = bounds.ema_best_rate(s, d, n, when="next", adaptive=False)
    assert found == 1 if rho > 1 else found**3 == pytest.approx(rho**2 * (2 - found) ** 2, rel=1e-9)
    found = bounds.certificate_gain_rate(s, d, n)
    assert found**3 == pytest.approx(2 * rho**2 * (1 - found) * (2 - found), rel=1e-9)
    assert bounds.certificate_gain_mse(s, d, n) == pytest.approx(bounds.ema_mse(found, s, d, batch=n), rel=1e-12)


def test_filters_by_hand():
    s, tau, n = 2.0, 3.0, 2
    steady = bounds.kalman_steady(s, tau, n)
    lam = tau**2 * n / s**2
    assert steady.gain == pytest.approx((-lam + math.sqrt(lam**2 + 4 * lam)) / 2, rel=1e-12)
    assert steady.posterior == pytest.approx(steady.gain * s**2 / n, rel=1e-12)
    assert steady.predicted == pytest.approx(steady.posterior + 9, rel=1e-12)
    assert steady.innovation == pytest.approx(steady.predicted + 2, rel=1e-12)
    information = 1 / 5
    for count in (2, 0, 1):
        information = 1 / (1 / information + 9) + count / 4
    assert bounds.kalman_mse(s, tau, [2, 0, 1], initial=5.0) == pytest.approx(1 / information, rel=1e-12)
    assert bounds.kalman_mse(50.0, 0.0, [1]) == pytest.approx(2500)
    reading = bounds.line_reading(0.4, 9.0)
    assert reading == pytest.approx((1.6 * math.sqrt(9 / 3.6), math.sqrt(9 * 0.064 / 3.6)), rel=1e-12)


def test_banks_by_hand():
    assert bounds.bank_regret(3.0, 5) == pytest.approx(18 * math.log(5), rel=1e-12)
    gone = 1 + 0.8 + 0.64
    assert bounds.bank_mean_regret(3.0, 5, 0.2, 3) == pytest.approx(18 * math.log(5) / gone, rel=1e-12)
    assert bounds.bank_mean_regret(3.0, 5, 0.0, 4) == pytest.approx(18 * math.log(5) / 4, rel=1e-12)
    assert bounds.bank_mean_regret(3.0, 5, 0.01) == pytest.approx(0.18 * math.log(5), rel=1e-12)
    assert bounds.bank_regret(3.0, 1) == 0 and bounds.bank_mean_regret(3.0, 5, 0.2, 1) == bounds.bank_regret(3.0, 5)
    with pytest.raises(ValueError, match="observations must hold more than 1 along the last axis"):
        bounds.rice_variance(3.0)
    assert bounds.rice_range(2.0, 0.5, adaptive=False) == pytest.approx((4.0, 4.125))
    assert bounds.rice_range(2.0, 0.5) == pytest.approx(((4 + 2.25) / 2, (4 + 6.25) / 2))
    assert bounds.rice_range(0.5, 2.0) == pytest.approx((0.125, (0.25 + 6.25) / 2))
    assert bounds.rice_variance([0.0, 3.0, 1.0]) == pytest.approx((9 + 4) / 2 / 2)
    assert bounds.rice_variance([0.0, 3.0, 1.0], order=2) == pytest.approx(25 / 6)
    assert bounds.rice_variance([0.0, 3.0, 1.0, 4.0], order=2) == pytest.approx((25 + 25) / 2 / 6)


def test_detectors_by_hand():
    f, s = 0.4, 0.1
    variance = f / (2 - f) + s / (2 - s) - 2 * f * s / (1 - (1 - f) * (1 - s))
    assert bounds.detector_variance(f, s) == pytest.approx(variance, rel=1e-12)
    assert bounds.detector_gap(f, s, 3.0, 4) == pytest.approx(3 * (0.9**4 - 0.6**4), rel=1e-12)
    delay = math.log(math.log(0.9) / math.log(0.6)) / math.log(0.6 / 0.9)
    assert bounds.detector_best_delay(f, s) == pytest.approx(delay, rel=1e-12)
    assert bounds.detector_best_delay(1.0, s) == 0
    threshold = 0.05 * (9 - 1.5) + 2 * math.sqrt(2 * variance * math.log(2 * 50 * 3 / 0.01))
    assert bounds.detector_threshold(f, s, 2.0, 0.05, 0.01, 50, regions=3) == pytest.approx(threshold, rel=1e-12)
    wrong = bounds.detector_threshold(f, s, 2.0, 0.05, 0.01, 50, 1.5, 3) - threshold
    assert wrong == pytest.approx(1.5 * (0.9**delay - 0.6**delay), rel=1e-9)
    instant = bounds.detector_threshold(1.0, s, 0.0, 0.0, 0.01, 50, 1.5)
    assert instant == pytest.approx(1.5 * 0.9, rel=1e-12)  # a rate of 1 is right at once: the most is at the first step
    for steps in (1, 2):
        found = bounds.detector_threshold(0.1, 0.02, 0.0, 0.0, 0.01, steps, 1.5)
        assert found == pytest.approx(1.5 * (0.98**steps - 0.9**steps), rel=1e-9)


def test_references_by_hand():
    s, n, b = 2.0, 3, 0.4
    noise = s**2 * b / (2 - b) / n
    assert bounds.sinusoid_drift(3.0, 0.5) == pytest.approx(6 * math.sin(0.25), rel=1e-12)
    assert bounds.sinusoid_drift(1.0, math.pi) == pytest.approx(2)
    gain = abs(b / (1 - (1 - b) * np.exp(-0.5j)) - 1)
    assert bounds.sinusoid_bias(b, 3.0, 0.5) == pytest.approx(3 * gain, rel=1e-12)
    assert bounds.sinusoid_mse(b, s, 3.0, 0.5, n) == pytest.approx(4.5 * gain**2 + noise, rel=1e-12)
    assert bounds.jump_mse(b, s, 3.0, 2, n) == pytest.approx((3 * 0.36) ** 2 + noise, rel=1e-12)
    error, target = 0.7, 2.0
    for _ in range(4):
        error, target = 0.6 * (error + target * 0.2), target * 0.8
    assert bounds.decay_bias(b, 2.0, 0.8, 4, 0.7) == pytest.approx(error, rel=1e-12)
    expected = b**2 * (4 + 0.36 * 9 + 0.36**2 * 2)
    assert bounds.heteroscedastic_variance(b, [4.0, 9.0, 2.0]) == pytest.approx(expected, rel=1e-12)


def test_importance_weights_by_hand():
    b, q, s = 0.4, 0.25, 2.0
    expected = b**2 * sum(0.36**i * ((s**2 + mu**2) / q - mu**2) for i, mu in enumerate((3.0, 1.0)))
    assert bounds.weighted_variance(b, q, s, [3.0, 1.0]) == pytest.approx(expected, rel=1e-12)
    assert bounds.weighted_mse(b, q, s, 3.0) == pytest.approx(b / 1.6 * ((4 + 9) / q - 9), rel=1e-12)
    assert bounds.weighted_break_even(0.1, q, s) == pytest.approx(math.sqrt(0.1 * 4 / 0.4), rel=1e-12)


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("when", ["now", "next"])
def test_best_windows_are_the_best_of_all(when, adaptive):
    for rho in (0.001, 0.02, 0.1, 0.3, 0.7, 0.95, 1.5):
        sizes = np.arange(1.0, 200)
        at = bounds.window_mse(sizes, 2.0, rho * 2 / math.sqrt(3), batch=3, when=when, adaptive=adaptive)
        mode = dict(batch=3, when=when, adaptive=adaptive)
        assert bounds.window_best_size(2.0, rho * 2 / math.sqrt(3), **mode) == sizes[np.argmin(at)]
        assert bounds.window_best_mse(2.0, rho * 2 / math.sqrt(3), **mode) == pytest.approx(at.min(), rel=1e-12)
    assert bounds.window_best_size(1.0, 0.0, when=when, adaptive=adaptive) == math.inf
    assert bounds.window_best_mse(1.0, 0.0, when=when, adaptive=adaptive) == 0
    assert bounds.window_best_size(1.0, 1e-30, when=when, adaptive=adaptive) in (2.0**52, 2.0**52 + 1)


def test_a_corrected_average_is_an_average_once_its_gains_are():
    """Beyond a^(t/2) < 1e-17 the sharp bound takes over, from what half the way leaves."""
    b, s, d = 0.1, 1.0, 0.01
    old = bounds.corrected_ema_mse(b, s, d, 10_000)
    assert old == pytest.approx(bounds.ema_mse(b, s, d), rel=1e-9)
    young = bounds.corrected_ema_mse(b, s, d, 300)
    assert young == pytest.approx(bounds.mse(bounds.corrected_ema_profile(b, 300), s, d), rel=1e-12)
    # 0.9^371 = 1.06e-17 and 0.9^372 = 0.95e-17: the switch is from 743 to 744 steps
    assert bounds.corrected_ema_mse(b, s, d, 743) == bounds.mse(bounds.corrected_ema_profile(b, 743), s, d)
    assert bounds.corrected_ema_mse(b, s, d, 744) == pytest.approx(bounds.ema_mse(b, s, d), rel=1e-12)
    assert bounds.corrected_ema_mse(b, s, d, 1) == pytest.approx(1)
    for rate in np.linspace(0.01, 1, 100):  # the first gain is 1, whatever the rounding
        assert bounds.corrected_ema_mse_recursion(rate, s, d, 1) == pytest.approx(1)
    gains = [min(b / (1 - (1 - b) ** t), 1.0) for t in range(1, 41)]
    assert bounds.corrected_ema_mse_recursion(b, s, d, 40, 3) == pytest.approx(bounds.mse_recursion(gains, s, d, 3))


# -------------------------------------------------------------------------------------------------------------- radii


def test_radii_by_hand():
    profile, s, d = bounds.Profile(0.2, 1.5, 0.4, 0.9), 2.0, 0.5
    bias, log_term = 0.2 * 1.4 + 0.75, math.log(2 * 3 * 4 / 0.05)
    args = dict(delta=0.05, initial=1.4, times=3, regions=4)
    gauss = bias + s * math.sqrt(2 * 0.4 * log_term)
    assert bounds.radius_sub_gaussian(profile, s, d, **args) == pytest.approx(gauss, rel=1e-12)
    assert bounds.radius_bounded(profile, 2 * s, d, **args) == pytest.approx(gauss, rel=1e-12)
    shocks = bias + s * math.sqrt(0.4 * 12 / 0.05)
    assert bounds.radius_chebyshev(profile, s, d, **args) == pytest.approx(shocks, rel=1e-12)
    a = 0.3 * 5 * log_term / 3
    bernstein = bias + a + math.sqrt(a**2 + 2 * s**2 * 0.4 * log_term)
    found = bounds.radius_bernstein(profile, s, 5.0, d, **args, largest_weight=0.3)
    assert found == pytest.approx(bernstein, rel=1e-12)
    visits = bias + s * math.sqrt(2 * 0.4 * math.log(2 * 7 * 4 / 0.05))
    found = bounds.radius_adaptive_visits(profile, s, d, 0.05, 7, 1.4, 4)
    assert found == pytest.approx(visits, rel=1e-12)
    n, n2, c, failure = 4.0, 3.0, 0.5, 0.05 / 12
    expected = d * 1.5 + s / n * math.sqrt((n2 + c) * math.log((n2 + c) / (c * failure**2)))
    found = bounds.radius_self_normalised(n, n2, 1.5, s, d, 0.05, c, 3, 4)
    assert found == pytest.approx(expected, rel=1e-12)
    assert bounds.radius_self_normalised(0.0, 0.0, 0.0, s, d, 0.05, c) == math.inf
    assert bounds.radius_self_normalised(0.05, 0.05, 0.0, s, d, 0.05, c) < 1000


def test_uniform_radii_are_the_best_of_their_blocks():
    b, s, d, delta, steps, k = 0.02, 2.0, 0.1, 0.05, 3000, 3

    def at(h):
        inner = 2 * b / (2 - b) * math.log(2 * math.ceil(steps / h) * k / delta)
        return 1.5 + d * 0.98 / 0.02 + 0.98 ** -(h - 1) * s * math.sqrt(inner)

    found = bounds.radius_uniform(b, s, d, delta, steps, k, 1.5)
    assert found == pytest.approx(min(at(h) for h in range(1, 60)), rel=1e-9)
    for block in (1, 2, 5, 40):
        assert bounds.radius_uniform(b, s, d, delta, steps, k, 1.5, block) == pytest.approx(at(block), rel=1e-12)
    assert bounds.radius_uniform(1.0, s, d, delta, steps, k, 1.5, 1) == pytest.approx(
        1.5 + s * math.sqrt(2 * math.log(2 * steps * k / delta)), rel=1e-12
    )


def moment(b, q, theta):
    """Ψ(θ) with its sum taken to the end, one term at a time."""

    def gap(u):
        return -math.log(1 - (1 - math.exp(-u)) / q)

    total, power = gap(theta) - theta, theta
    while power > 1e-14 * theta:
        power *= 1 - b
        total += gap(power)
    return total


@pytest.mark.parametrize(("b", "q"), [(0.3, 0.4), (0.02, 0.5), (0.005, 0.9), (1.0, 0.3)])
def test_the_generating_function_of_the_lag_is_its_sum(b, q):
    """Beyond 64 terms an integral from 64.5 on: a bound, right to the curvature of the terms."""
    for share in (0.1, 0.5, 0.9):
        theta = -share * math.log(1 - q)
        found = float(radius._log_moment(np.asarray(b), np.asarray(q), np.asarray(theta)))
        assert found == pytest.approx(moment(b, q, theta), rel=1e-5)


@pytest.mark.parametrize(("b", "q", "delta"), [(0.3, 0.4, 0.01), (0.9, 0.05, 0.2), (0.1, 0.9, 1e-6), (0.9, 0.3, 1e-30)])
def test_lags_are_the_best_of_their_bounds(b, q, delta):
    largest = -math.log(1 - q)
    best = minimize_scalar(
        lambda x: (moment(b, q, largest / (1 + math.exp(-x))) - math.log(delta)) * (1 + math.exp(-x)) / largest,
        bounds=(-12, 20), method="bounded", options={"xatol": 1e-9},
    )  # fmt: skip
    assert bounds.lag_quantile(b, q, delta) == pytest.approx(best.fun, rel=1e-5)
    assert math.log(bounds.lag_tail(b, q, best.fun)) == pytest.approx(math.log(delta), rel=1e-4)


def test_lags_at_their_ends():
    assert bounds.lag_quantile(0.4, 1.0, 0.01) == pytest.approx(1.5)
    assert bounds.lag_tail(0.4, 1.0, 1.45) == 1 and bounds.lag_tail(0.4, 1.0, 1.55) == 0
    assert bounds.lag_tail(0.4, 0.5, 0.0) == 1
    assert bounds.lag_from_longest_gap(0.4, 0.3, 0.01, 20, 3) == pytest.approx(
        math.ceil(math.log(6000) / -math.log(0.7)) / 0.4 - 1
    )
    assert bounds.lag_from_longest_gap(0.4, 0.999, 0.5) == pytest.approx(1.5)


# ----------------------------------------------------------------------------------------------------------- numerics


def test_arithmetic_at_its_ends():
    one, zero = np.asarray(1.0), np.asarray(0.0)
    assert _numerics.power(np.asarray(-math.inf), zero) == 1 and _numerics.power(np.asarray(-0.5), zero) == 1
    assert _numerics.one_minus_power(np.asarray(-math.inf), zero) == 0
    assert _numerics.power_gap(one, one, np.asarray(3.0)) == 3
    assert _numerics.power_gap(one, one, zero) == 0
    assert _numerics.power_gap(np.asarray(0.5), np.asarray(0.5), np.asarray(3.0)) == pytest.approx(0.75)
    assert _numerics.power_gap(np.asarray(0.05), zero, np.asarray(2.0)) == pytest.approx(0.05)
    assert _numerics.power_gap(np.asarray(0.5), np.asarray(0.45), np.asarray(3.0)) == pytest.approx(
        0.25 + 0.225 + 0.2025
    )
    assert _numerics.power_gap(zero, zero, one) == 1  # t·0^(t-1) at t = 1
    assert _numerics.ratio(np.asarray(3.0), np.asarray(0.05)) == pytest.approx(60)
    assert _numerics.ratio(one, zero) == math.inf
    nodes, weights = _numerics.legendre(5)
    assert (weights * nodes**8).sum() == pytest.approx(2 / 9)


def test_recursions_are_followed_for_4096_steps_then_bounded():
    """As ``ema_mse`` says: exact up to there, an upper bound beyond, which is not the exact value."""
    b, s, d, e0 = 1e-5, 1.0, 1e-4, 0.0
    kappa, v, at = b * (2 - b), e0, {}
    for step in range(1, 4301):
        v = math.sqrt((1 - kappa) * (v + d) ** 2 + b**2 * s**2)
        at[step] = v
    args = [np.asarray(x) for x in (kappa, b**2 * s**2, d, e0)]
    log_shrink = np.asarray(2 * math.log1p(-b))

    def bound(steps):
        return float(_numerics.norm_recursion(*args, np.asarray(float(steps)), log_shrink))

    assert bound(4095) == pytest.approx(at[4095], rel=1e-9) and bound(4096) == pytest.approx(at[4096], rel=1e-9)
    limit = ((1 - kappa) * d + math.sqrt((1 - kappa) * d**2 + kappa * b**2 * s**2)) / kappa
    assert bound(4097) == pytest.approx(limit, rel=1e-9) and limit > 1.01 * at[4300]
    above = float(_numerics.norm_recursion(*args[:3], np.asarray(1e3), np.asarray(1e4), log_shrink))
    exact = 1e3
    for step in range(10_000):
        if step == 4096:
            left = (1 - b) ** (10_000 - 4096) * (exact - limit)
        exact = math.sqrt((1 - kappa) * (exact + d) ** 2 + b**2 * s**2)
    assert exact <= above == pytest.approx(limit + left, rel=1e-9)
    assert bounds.ema_mse(b, s, d, 10_000, 1e3) >= exact**2


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 6, 11, 1000])
def test_matrix_powers(steps):
    matrix = np.array([[0.9, 0.0], [0.3, 0.5]])
    found = _numerics.matrix_power(matrix, np.log([0.9, 0.5]), np.asarray(float(steps)))
    assert found == pytest.approx(np.linalg.matrix_power(matrix, steps), rel=1e-9, abs=1e-50)


@pytest.mark.parametrize("root", [1e-250, 1e-9, 0.05, 0.7, 1.0])
def test_rates_are_found(root):
    found = _numerics.solve_rate(lambda u, b: u - math.log(root), np.zeros(1))
    assert found == pytest.approx([root], rel=1e-12)
