"""Extreme and bad arguments of every function: finite where they should be, one line that names the value elsewhere."""

from __future__ import annotations

import inspect
import itertools

import numpy as np
import pytest
import torch

from aria.interfaces import Certificate
from theory import bounds, limits

RATES = [1e-12, 1e-6, 0.1, 1 - 1e-12, 1.0]
VISITS = [1e-9, 0.3, 1.0]
STEPS = [0, 1, 2, 1000, 10**12, np.inf]
RHOS = [1e-12, 1e-6, 1.0, 1e6]
MODES = [dict(when=when, adaptive=adaptive) for when in ("now", "next") for adaptive in (True, False)]


def fine(values):
    """Finite and not negative. Overflow and the like are errors already: warnings are."""
    values = np.asarray(values)
    return bool(np.all(np.isfinite(values)) and np.all(values >= 0))


def grid(*axes):
    """Arrays of one shape that hold every combination."""
    return (np.array(column) for column in zip(*itertools.product(*axes), strict=True))


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_bounds_of_averages_stay_finite(mode):
    rate, rho, steps = grid(RATES, RHOS, STEPS)
    assert fine(bounds.ema_mse(rate, 1.0, rho, steps, 2.0, **mode))
    assert fine(bounds.corrected_ema_mse(rate, 1.0, rho, np.maximum(steps, 1), **mode))
    rate, visit, rho, steps = grid(RATES, VISITS, RHOS, STEPS)
    assert fine(bounds.asynchronous_mse(rate, visit, 1.0, rho, steps, 2.0, **mode))
    assert fine(bounds.cumulative_mse([1, 10**12], 1.0, 1.0, **mode))
    assert fine(bounds.window_mse([1, 10**12], 1.0, 1.0, **mode))
    rho = np.array(RHOS)
    for best in (bounds.ema_best_rate, bounds.ema_best_mse, bounds.window_best_size, bounds.window_best_mse):
        assert fine(best(1.0, rho, **mode)) and fine(best(0.0, rho, **mode))
    for visit in VISITS:
        assert fine(bounds.asynchronous_best_rate(visit, 1.0, rho, **mode))
        assert fine(bounds.asynchronous_best_mse(visit, 1.0, rho, **mode))
    assert fine(bounds.certificate_gain_mse(1.0, rho, **mode))


def test_profiles_stay_finite():
    rate, steps = grid(RATES, STEPS[1:])
    for profile in (bounds.ema_profile(rate, steps), bounds.corrected_ema_profile(rate, steps)):
        assert all(fine(part) for part in profile)
    assert all(fine(part) for part in bounds.triangular_profile([1e-9, 1.0, 1e9]))
    assert all(fine(part) for part in bounds.window_profile([1, 10**12]))


def test_nothing_cancels_where_rates_are_tiny():
    """A tiny rate averages like the plain mean, which has no rate."""
    for steps in (2, 1000, 10**5):
        young, mean = bounds.corrected_ema_profile(1e-12, steps), bounds.cumulative_profile(steps)
        assert young == pytest.approx(mean, rel=1e-6)
    young = bounds.ema_profile(1e-12, 1000)
    assert young.lag == pytest.approx(1000, rel=1e-8) and young.walk == pytest.approx(1000, rel=1e-8)
    assert bounds.asynchronous_mse(1e-12, 0.5, 1.0, 1.0, 1000, adaptive=False) == pytest.approx(1e6, rel=1e-8)
    assert bounds.detector_gap(1e-9, 1e-12, 1.0, 10) == pytest.approx(10 * (1e-9 - 1e-12), rel=1e-6)
    assert bounds.decay_bias(1e-12, 1.0, 1 - 1e-12, 1000) == pytest.approx(1000e-12, rel=1e-4)


def test_other_bounds_stay_finite():
    rate, visit, rho = grid(RATES, VISITS, RHOS)
    assert fine(bounds.asynchronous_mse_random_walk(rate, visit, 1.0, rho))
    assert fine(bounds.ema_mse_random_walk(rate, 1.0, rho)) and fine(bounds.price_of_adaptivity(rate, 1.0, rho))
    assert all(fine(part) for part in bounds.kalman_steady(1.0, rho))
    assert all(fine(part) for part in bounds.kalman_steady(1e-12, 1e12))
    assert fine(bounds.kalman_mse(1e-6, 1e6, np.ones(50)))
    assert fine(bounds.coupled_drift_mse(rate, 1.0, rho, 1e-3, 5.0))
    assert fine(bounds.closed_loop_mse(rate, 1.0, rho, visit, 1e-3, 5.0))
    low = np.minimum(rate, visit)
    assert fine(bounds.residual_mse(low, visit, 1.0, rho)) and fine(bounds.weighted_mse(rate, visit, 1.0, rho))
    assert fine(bounds.residual_mse(low, visit, 1.0, rho, adaptive=False))
    assert fine(bounds.lag_quantile(rate, visit, 1e-12)) and fine(bounds.lag_tail(rate, visit, rho))
    assert fine(bounds.lag_from_longest_gap(rate, visit, 1e-12, 10**9))
    assert fine(bounds.radius_uniform(rate, 1.0, rho, 1e-12, 10**12, 10**6))
    assert fine(bounds.effective_batch([1, 1000, 10**6], [1e-12, 0.5, 1.0]))
    assert fine(bounds.effective_batch([1, 10**12, 10**12], [1e-12, 1e-12, 1.0], exact=False))
    assert bounds.effective_batch(10**6, 1e-12) == pytest.approx(1) == bounds.effective_batch(10**6, 1e-12, exact=False)
    assert fine(bounds.sinusoid_bias(rate, rho, 1e-12)) and fine(bounds.jump_mse(rate, 1.0, rho, 10**12))
    assert fine(bounds.detector_threshold([1.0, 1e-9], [1e-12, 1e-12], 1.0, 1.0, 1e-12, 10**12, initial=1.0))
    assert fine(bounds.radius_self_normalised(1e12, 1e12, 1e6, 1.0, 1e-6, 1e-300, 1e-6))


@pytest.mark.parametrize("when", ["now", "next"])
def test_limits_stay_finite(when):
    for visit in VISITS:
        rho = np.array(RHOS)
        assert fine(limits.linear_limit(1.0, rho, visit, when=when)) and fine(
            limits.linear_limit_width(1.0, rho, visit)
        )
        assert fine(limits.minimax_lower_bound(1.0, rho, visit, when=when))
    assert fine(limits.asynchronous_linear_limit(1.0, np.array([1e-12, 1e-3, 1e6]), 1e-3, when=when))


def test_numbers_give_floats_arrays_arrays_and_tensors_work():
    assert type(bounds.ema_mse(0.1, 1.0, 0.1)) is float is type(limits.linear_limit(1.0, 0.1))
    assert bounds.ema_mse([0.1, 0.2], [[1.0], [2.0]], 0.1).shape == (2, 2)
    shipped = Certificate(*(torch.full((4, 3), x) for x in (0.0, 2.0, 0.25)))
    errors = bounds.mse(shipped, 2.0, torch.tensor([0.0, 0.1, 0.2]), adaptive=False)
    assert errors == pytest.approx(np.tile([1.0, 1.04, 1.16], (4, 1)))
    assert bounds.radius_sub_gaussian(shipped, 1.0, 0.0, 0.05).shape == (4, 3)


GOOD = dict(
    rate=0.2, visit_rate=0.5, sigma=1.0, drift=0.1, delta=0.05, steps=10, initial=0.0, batch=1, step=0.1, share=0.1,
    interval=1.0, largest_noise=1.0, fast=0.2, slow=0.1, jump=1.0, visits=3, regions=2, times=2, size=3, width=2.0,
    level=1.0, levels=[1.0, 1.0], shrink=0.1, effort=10.0, experts=3, forget=0.1, gain=0.5, innovation=1.0, factor=2.0,
    amplitude=1.0, frequency=0.5, decay=0.5, variances=[1.0], weights=[0.5, 0.5], drifts=[1.0, 1.0], noises=[0.0, 0.0],
    noise=0.0, gains=[0.5, 0.5], mean_square_drift=0.1, sensitivity=1.0, lag=1.0, count=2.0, square=2.0, prior=1.0,
    mass=[0.5, 0.5], allocation=[0.5, 0.5], values=[1.0, 2.0], magnitude=[1.0, 2.0], error=0.1, floor=0.1,
    first=[0.5, 0.5], second=[0.5, 0.5], change=0.1, first_total=1.0, second_total=1.0, temperature=1.0, start=0.0,
    utility_ranges=[1.0], shifts=[0.1], mse=[0.1, 0.1], total=1.0, utility=[0.0, 1.0], observations=[0.0, 1.0, 2.0],
    discrepancy=[1.0, 2.0], exponent=0.5, transfer=0.5, power=1.0, spent=[0.5, 0.5], spread=0.5, gate=0.5, gap=1.0,
    single=[1.0, 2.0], groups=[0, 1], adaptive_gain=0.1,
    block=1, initial_square=1.0, final_square=0.0, final=0.0, mean_step=0.0, largest_weight=0.5, base=[0.5, 0.5],
    certificate=bounds.ema_profile(0.5), profile=bounds.ema_profile(0.5),
)  # fmt: skip
WORDS = {"when", "adaptive", "exact", "order", "against", "certificate", "profile"}
FUNCTIONS = [
    getattr(module, name)
    for module in (bounds, limits)
    for name in dir(module)
    if inspect.isfunction(getattr(module, name)) and getattr(module, name).__module__.startswith("theory.")
    and not name.startswith("_") and name not in {"plain", "triangle_sums"}
]  # fmt: skip


def call(function, **changes):
    parameters = inspect.signature(function).parameters
    given = {
        name: GOOD[name]
        for name, parameter in parameters.items()
        if name not in WORDS and (parameter.default is inspect.Parameter.empty or name in changes)
    } | {name: GOOD["certificate"] for name in ("certificate", "profile") if name in parameters}
    return function(**given | changes)


def numeric(function):
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in WORDS and not isinstance(parameter.default, str)
    ]


CASES = [(function, name) for function in FUNCTIONS for name in numeric(function)]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_every_function_takes_what_it_should(function):
    result = call(function)
    assert all(np.all(np.isfinite(part)) for part in (result if isinstance(result, tuple) else (result,)))


@pytest.mark.parametrize(("function", "name"), CASES, ids=lambda x: x if isinstance(x, str) else x.__name__)
@pytest.mark.parametrize("bad", [np.nan, "much"])
def test_what_is_no_number_is_named(function, name, bad):
    shape = np.shape(GOOD[name])
    with pytest.raises(ValueError, match=r"must .*got") as info:
        call(function, **{name: bad if not shape else np.full(shape, bad)})
    assert "\n" not in str(info.value) or bad == "much"
    if bad != "much":
        assert str(info.value).endswith("got nan")


NEGATIVE_IS_FINE = {
    "jump", "level", "levels", "drifts", "noises", "noise", "sensitivity", "values", "utility", "observations",
    "amplitude", "final", "mean_step", "initial", "adaptive_gain",
}  # fmt: skip


@pytest.mark.parametrize(
    ("function", "name"),
    [case for case in CASES if case[1] not in NEGATIVE_IS_FINE],
    ids=lambda x: x if isinstance(x, str) else x.__name__,
)
def test_negative_numbers_are_refused(function, name):
    shape = np.shape(GOOD[name])
    with pytest.raises(ValueError, match=r"must .*got -0\.5"):
        call(function, **{name: np.full(shape, -0.5) if shape else -0.5})


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: bounds.ema_mse(1.5, 1.0, 0.1), r"rate must lie in \(0, 1\], got 1.5"),
        (lambda: bounds.ema_mse(0.0, 1.0, 0.1), r"rate must lie in \(0, 1\], got 0.0"),
        (lambda: bounds.ema_mse([0.1, 2.0], 1.0, 0.1), r"rate must lie in \(0, 1\], got 2.0"),
        (lambda: bounds.ema_mse(0.5, -1.0, 0.1), "sigma must be non-negative and finite, got -1.0"),
        (lambda: bounds.ema_mse(0.5, 1.0, np.inf), "drift must be non-negative and finite, got inf"),
        (lambda: bounds.ema_mse(0.5, 1.0, 0.1, batch=0.5), "batch must be at least 1 and finite, got 0.5"),
        (
            lambda: bounds.ema_mse(0.5, 1.0, 0.1, steps=2.5),
            "steps must be a whole number of at least 0 .* or inf, got 2.5",
        ),
        (lambda: bounds.ema_mse(0.5, 1.0, 0.1, when="then"), "when must be 'now' or 'next', got 'then'"),
        (lambda: bounds.corrected_ema_profile(0.5, 0), "steps must be a whole number of at least 1 .*, got 0.0"),
        (lambda: bounds.asynchronous_mse(0.5, 0.0, 1.0, 0.1), r"visit_rate must lie in \(0, 1\], got 0.0"),
        (lambda: bounds.asynchronous_mse(0.5, 0.5, 1.0, 0.1, when="visit"), "settled oblivious form only"),
        (lambda: bounds.asynchronous_best_rate(0.5, 1.0, 0.1, when="visit"), "oblivious form only"),
        (lambda: bounds.residual_mse(0.5, 0.25, 1.0, 0.0), "rate must be below twice visit_rate, got 0.5"),
        (lambda: bounds.residual_mse(0.3, 0.25, 1.0, 0.0, adaptive=False), "rate must be at most visit_rate, got 0.3"),
        (
            lambda: bounds.radius_chebyshev(bounds.ema_profile(0.5), 1.0, 0.0, 1.0),
            r"delta must lie in \(0, 1\), got 1.0",
        ),
        (lambda: bounds.effective_batch(10**7, 0.5), "batch must be at most .* got 10000000.0: write exact=False"),
        (lambda: bounds.profile_of_weights([0.5, 0.2]), "weights and start must sum to 1, got 0.7"),
        (lambda: bounds.certificate_recursion(0.5), "gains must have a last axis of steps, got 0.5"),
        (lambda: bounds.detector_variance(0.1, 0.1), "slow must be below fast, got 0.1"),
        (lambda: bounds.rice_variance([1.0, 2.0], order=3), "order must be 1 or 2, got 3"),
        (lambda: bounds.rice_variance([1.0]), "observations must hold more than 1 along the last axis"),
        (lambda: bounds.best_allocation([0.5, 0.5], [0.0, 0.0]), "the sum of mass \\* magnitude must be positive"),
        (
            lambda: bounds.importance_bias([0.5, 0.6], [0.5, 0.5], [1, 1]),
            "mass must sum to 1 over its last axis, got 1.1",
        ),
        (lambda: bounds.importance_bias(1.0, [1.0], [1]), "mass must have a last axis of shares, got 1.0"),
        (lambda: bounds.misallocation_factor(1.0), r"error must lie in \[0, 1\), got 1.0"),
        (lambda: bounds.sinusoid_drift(1.0, 4.0), "frequency must be at most pi, got 4.0"),
        (lambda: bounds.kalman_steady(0.0, 0.0), "sigma \\+ step must be positive and finite, got 0.0"),
        (
            lambda: limits.minimax_lower_bound(1.0, 0.1, 0.5, prior="three"),
            "needs visit_rate 1, got 0.5: write prior='two'",
        ),
        (lambda: limits.times_limit(1.0, 1.0, 0.0), "drift must be positive and finite, got 0.0"),
        (lambda: limits.times_limit(1.0, 1.0, 0.1, against="me"), "against must be 'linear' or 'any', got 'me'"),
    ],
)
def test_bad_arguments_are_named(make, sentence):
    with pytest.raises(ValueError, match=sentence) as info:
        make()
    assert "\n" not in str(info.value)
