"""T16 and the detector: exact tails, exact laws of the lag, and the numbers quoted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from aria.trackers import EMA, DiscountedUCB, Window, WindowUCB
from tests.theory.exact import certificate, run, signs, value
from theory.bounds import (
    Profile,
    detector_best_delay,
    detector_gap,
    detector_threshold,
    detector_variance,
    ema_profile,
    lag_from_longest_gap,
    lag_quantile,
    lag_tail,
    radius_adaptive_visits,
    radius_bernstein,
    radius_bounded,
    radius_chebyshev,
    radius_self_normalised,
    radius_sub_gaussian,
    radius_uniform,
    window_profile,
)

profiles = st.builds(Profile, st.floats(0, 1), st.floats(0, 50), st.floats(1e-3, 1), st.just(0.0))
scales, deltas, counts = st.floats(0.01, 10), st.floats(1e-9, 0.5), st.integers(1, 1000)


# ------------------------------------------------------------------------------------------------------ T16-1, 2, 4


@given(profiles, scales, scales, deltas, scales, counts, counts)
def test_radii_invert_their_tail_bounds(profile, s, drift, delta, initial, times, regions):
    bias = profile.start * initial + profile.lag * drift
    union = dict(initial=initial, times=times, regions=regions)
    variance, failure = s**2 * profile.noise, delta / (times * regions)

    x = radius_sub_gaussian(profile, s, drift, delta, **union) - bias
    assert np.log(2) - x**2 / (2 * variance) == pytest.approx(np.log(failure), rel=1e-6)
    assert radius_bounded(profile, 2 * s, drift, delta, **union) == pytest.approx(x + bias)
    x = radius_chebyshev(profile, s, drift, delta, **union) - bias
    assert variance / x**2 == pytest.approx(failure, rel=1e-6)
    for weight in (None, 0.5 * np.sqrt(profile.noise)):
        x = radius_bernstein(profile, s, 3 * s, drift, delta, largest_weight=weight, **union) - bias
        largest = (np.sqrt(profile.noise) if weight is None else weight) * 3 * s
        assert np.log(2) - x**2 / (2 * (variance + largest * x / 3)) == pytest.approx(np.log(failure), rel=1e-6)
    x = radius_adaptive_visits(profile, s, drift, delta, steps=times, initial=initial, regions=regions)
    assert x == pytest.approx(radius_sub_gaussian(profile, s, drift, delta, **union))


@pytest.mark.parametrize("tracker", [EMA(rate=0.3), Window(size=4)], ids=repr)
@pytest.mark.parametrize("delta", [0.5, 0.1, 0.01])
def test_no_more_signs_fail_than_promised(tracker, delta):
    """All noises ±s of twelve steps on a line; also with one rare large value, whose tail only Chebyshev may claim."""
    s, drift, steps = 0.8, 0.1, 12
    target = drift * np.arange(steps)
    state = run(tracker, target + s * signs(steps))
    error = np.abs(value(tracker, state) - target[-1])
    shipped = certificate(tracker, state)
    for radius in (
        radius_sub_gaussian(shipped, s, drift, delta),
        radius_bounded(shipped, 2 * s, drift, delta),
        radius_chebyshev(shipped, s, drift, delta),
        radius_bernstein(shipped, s, s, drift, delta),
    ):
        assert np.mean(error > radius) <= delta


@given(st.floats(0.01, 1), scales, deltas)
def test_gaussian_noise_stays_within(rate, s, delta):
    """The error of a settled EMA on a line is Gaussian, so its tail is known exactly."""
    profile, drift = ema_profile(rate), 0.3
    radius = radius_sub_gaussian(profile, s, drift, delta)
    deviation, bias = s * np.sqrt(profile.noise), drift * profile.lag
    tail = norm.sf((radius - bias) / deviation) + norm.cdf((-radius - bias) / deviation)
    assert 0.02 * delta < tail <= delta


def test_chebyshev_is_attained_by_rare_shocks():
    """Four equal weights; noise is 0 but for shocks so rare that at most one matters."""
    rare, s = 1e-8, 1.0
    shock = s / np.sqrt(rare)
    at_shock = radius_chebyshev(window_profile(4), s, 0.0, delta=4 * rare)
    assert at_shock == pytest.approx(shock / 4)  # exceeded or met with probability 4·rare, to first order
    assert radius_sub_gaussian(window_profile(4), s, 0.0, delta=4 * rare) < shock / 4  # false for such noise


def test_sparse_noise_is_where_bernstein_pays():
    """Noise of size 1 in one step of a hundred: 2 to 3 times tighter than an interval of length 2."""
    profile = ema_profile(0.01)
    sparse = radius_bernstein(profile, 0.1, 1.0, 0.0, 0.05, largest_weight=0.01)
    assert 2.1 < radius_bounded(profile, 2.0, 0.0, 0.05) / sparse < 5.6


# ------------------------------------------------------------------------------------------------------------ T16-3


def test_uniform_radius_quoted():
    assert radius_uniform(0.01, 1.0, 0.0, 0.05, steps=4000) == pytest.approx(0.336, abs=5e-4)
    union = radius_uniform(0.01, 1.0, 0.0, 0.05, steps=4000, block=1)
    assert union == pytest.approx(0.347, abs=5e-4)
    assert union == pytest.approx(radius_sub_gaussian(ema_profile(0.01), 1.0, 0.0, 0.05, times=4000))


@given(st.floats(1e-4, 1), st.integers(1, 10**6), st.integers(1, 1000), st.integers(1, 50), deltas)
def test_uniform_radius_is_its_formula(rate, steps, regions, block, delta):
    block = min(block, steps)
    fixed = radius_uniform(rate, 2.0, 0.3, delta, steps, regions, initial=1.5, block=block)
    many = 2 * np.ceil(steps / block) * regions / delta
    with np.errstate(divide="ignore"):
        grown = np.exp(min(700.0, 0.0 if block == 1 else -(block - 1) * np.log1p(-rate)))
    noise = 2.0 * np.sqrt(2 * rate / (2 - rate) * np.log(many)) * grown
    assert fixed == pytest.approx(1.5 + 0.3 * (1 - rate) / rate + noise, rel=1e-9)
    best = radius_uniform(rate, 2.0, 0.3, delta, steps, regions, initial=1.5)
    assert best <= radius_uniform(rate, 2.0, 0.3, delta, steps, regions, initial=1.5, block=1)
    every = [radius_uniform(rate, 2.0, 0.3, delta, steps, regions, initial=1.5, block=h) for h in range(1, block + 1)]
    assert best <= 1.002 * min(every)


@pytest.mark.parametrize("rate", [0.05, 0.3])
@pytest.mark.parametrize("delta", [0.3, 0.05])
def test_no_more_sign_paths_leave_the_tube_than_promised(rate, delta):
    noise, worst = np.zeros(2**12), np.zeros(2**12)
    for column in signs(12).T:
        noise = (1 - rate) * noise + rate * column
        worst = np.maximum(worst, np.abs(noise))
    assert np.mean(worst > radius_uniform(rate, 1.0, 0.0, delta, steps=12)) <= delta


# ------------------------------------------------------------------------------------------------------------ T16-5


def lags(rate, q, steps):
    """Every lag after ``steps`` and its probability."""
    lag, chance = np.zeros(1), np.ones(1)
    for _ in range(steps):
        lag = np.concatenate([(1 - rate) * (lag + 1), lag + 1])
        chance = np.concatenate([q * chance, (1 - q) * chance])
    return lag, chance


@pytest.mark.parametrize(("rate", "q"), [(0.5, 0.5), (0.4, 0.7), (0.9, 0.3)])
@pytest.mark.parametrize("delta", [0.1, 0.01])
def test_the_lag_stays_below_its_quantile(rate, q, delta):
    lag, chance = lags(rate, q, 18)
    order = np.argsort(lag)
    true = lag[order][np.searchsorted(np.cumsum(chance[order]), 1 - delta)]
    bound = lag_quantile(rate, q, delta)
    assert true < bound < 2.2 * true
    assert lag_tail(rate, q, bound) == pytest.approx(delta, rel=1e-6)
    for x in (1.0, 3.0, 6.0):
        assert chance[lag > x].sum() <= lag_tail(rate, q, x)


def test_the_generating_function_has_the_moments_of_the_lag():
    from theory.bounds.radius import _log_moment

    for rate, q in ((0.3, 0.4), (0.004, 0.2), (1.0, 0.5)):
        step = 1e-4 * rate * q
        low, high = (_log_moment(np.array(rate), np.array(q), np.array(k * step)) for k in (1, 2))
        mean = 1 / (rate * q) - 1
        variance = (1 - q) / (q**2 * rate * (2 - rate))
        assert (4 * low - high) / (2 * step) == pytest.approx(mean, rel=2e-4)
        assert (high - 2 * low) / step**2 == pytest.approx(variance, rel=5e-3)


def test_lags_of_surely_visited_regions():
    assert lag_quantile(0.2, 1.0, 0.01) == pytest.approx(4.0)
    assert lag_tail(0.2, 1.0, 3.9) == 1 and lag_tail(0.2, 1.0, 4.1) == 0
    assert lag_quantile(1.0, 0.5, 2.0**-30) < 1.3 * 30  # the age of the last visit, P(A ≥ k) = (1-q)^k


def test_the_longest_gap():
    assert lag_from_longest_gap(0.1, 0.05, 0.05, steps=400) == pytest.approx(176 / 0.1 - 1)  # 0.95^176 < .05/400
    assert 0.95**176 <= 0.05 / 400 < 0.95**175
    assert 3 < lag_from_longest_gap(0.1, 0.05, 0.05, steps=400) / lag_quantile(0.1, 0.05, 0.05 / 400) < 5
    assert lag_from_longest_gap(0.25, 1.0, 0.05) == pytest.approx(3.0)


# ------------------------------------------------------------------------------------------------------------ T16-6


@given(st.integers(1, 30), st.integers(0, 2**30 - 1))
def test_self_normalised_radius_is_the_shipped_one(steps, pattern):
    visited = np.array([pattern >> t & 1 for t in range(steps)], dtype=float)
    age = np.arange(steps)[::-1]
    for tracker, fade, prior in (
        (DiscountedUCB(sigma=1.3, drift=0.02, discount=0.8, delta=0.02), 0.8**age, 0.05 / (1 - 0.64)),
        (WindowUCB(sigma=1.3, drift=0.02, size=7, delta=0.02), (age < 7) * 1.0, 0.7),
    ):
        weights = visited * fade
        count, square = weights.sum(), (weights * fade).sum()
        lag = (weights * age).sum() / count if count else 0.0
        radius = radius_self_normalised(count, square, lag, 1.3, 0.02, 0.02, prior)
        shipped = tracker.estimate(run(tracker, np.zeros((1, steps)), visited)).stderr.item()
        assert radius == shipped if np.isinf(shipped) else radius == pytest.approx(shipped, rel=1e-9)
        union = radius_self_normalised(count, square, lag, 1.3, 0.02, 0.02, prior, times=5, regions=2)
        assert union == radius_self_normalised(count, square, lag, 1.3, 0.02, 0.002, prior)


# --------------------------------------------------------------------------------------------------------- detector


def test_detector_quoted():
    args = dict(sigma=1.0, drift=0.002, delta=0.01, steps=1500)
    threshold = detector_threshold(0.1, 0.02, **args)
    assert threshold == pytest.approx(0.93, abs=5e-3)
    lag = 0.98 / 0.02 - 0.9 / 0.1
    variance = 0.1 / 1.9 + 0.02 / 1.98 - 2 * 0.1 * 0.02 / (1 - 0.9 * 0.98)
    assert detector_variance(0.1, 0.02) == pytest.approx(variance)
    noise = np.sqrt(2 * variance * np.log(2 * 1500 * 3 / 0.01))
    assert detector_threshold(0.1, 0.02, **args, regions=3) == pytest.approx(0.002 * lag + noise)
    wrong = detector_threshold(0.1, 0.02, **args, initial=2.0) - threshold
    gaps = 0.98 ** np.arange(1500) - 0.9 ** np.arange(1500)
    assert wrong == pytest.approx(2 * gaps.max(), rel=1e-3) and wrong >= 2 * gaps.max()
    delay = detector_best_delay(0.1, 0.02)
    assert abs(delay - gaps.argmax()) < 1
    assert detector_gap(0.1, 0.02, 1.5, np.arange(1500)) == pytest.approx(1.5 * gaps)
    # Gaussian noise at the best moment alone: a jump by 3 is all but sure to be found, one by 1 is likely to be missed.
    found = norm.sf((threshold - detector_gap(0.1, 0.02, np.array([1.0, 3.0]), round(delay))) / np.sqrt(variance))
    assert found[0] < 0.24 and found[1] > 0.9999


@given(st.floats(0.01, 0.98), st.floats(0.02, 1))
def test_detector_variance_is_the_sum_over_ages(share, fast):
    slow = share * fast
    age = np.arange(40_000 if slow < 0.01 else 4000)
    difference = fast * (1 - fast) ** age - slow * (1 - slow) ** age
    assert detector_variance(fast, slow) == pytest.approx((difference**2).sum(), rel=1e-6)
    grown = detector_gap(fast, slow, 1.0, np.array([0, 1, 2, 3]))
    assert grown == pytest.approx((1 - slow) ** np.arange(4.0) - (1 - fast) ** np.arange(4.0), abs=1e-12)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60), st.floats(-2, 2))
def test_no_path_within_the_drift_sounds_the_alarm(drifts, start):
    """Without noise, on every path: two shipped EMAs from one wrong start."""
    fast, slow = (EMA(rate=rate, importance=True) for rate in (0.3, 0.05))
    states = [tracker.init((1, 1)) for tracker in (fast, slow)]
    limit = detector_threshold(0.3, 0.05, 0.0, 1.0, 0.5, steps=len(drifts), initial=abs(start))
    target = 0.0
    one = torch.ones(1, 1, dtype=torch.float64)
    for observed in [start, *np.cumsum(drifts)]:
        target = observed
        stats = type("Stats", (), dict(n=one, total=one * target, square=one * target**2, visit=one))
        states = [tracker.update(state, stats) for tracker, state in zip((fast, slow), states, strict=True)]
        gap = abs(value(fast, states[0])[0] - value(slow, states[1])[0])
        assert gap <= limit + 1e-9


def test_a_steady_drift_reaches_the_threshold():
    profiles = ema_profile(0.02), ema_profile(0.1)
    limit = detector_threshold(0.1, 0.02, 0.0, 0.3, 0.5, steps=1000)
    assert limit == pytest.approx(0.3 * (profiles[0].lag - profiles[1].lag))
    assert detector_best_delay(1.0, 0.2) == 0
    assert detector_threshold(1.0, 0.2, 0.0, 0.0, 0.5, steps=9, initial=1.0) == pytest.approx(0.8)
