"""T0, T1, T1-A, T1-C, T2 and the table of weights against the shipped trackers, by exact enumeration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aria.trackers import EMA, CertificateGain, Discounted, Kalman, Window, recursion
from tests.theory.exact import Tree, certificate, run, signs, stats, value
from theory.bounds import (
    certificate_recursion,
    corrected_ema_mse,
    corrected_ema_mse_recursion,
    corrected_ema_profile,
    cumulative_mse,
    cumulative_mse_random_walk,
    cumulative_profile,
    ema_mse,
    ema_profile,
    error_parts,
    error_pathwise,
    mse,
    mse_random_walk,
    mse_recursion,
    path_bias,
    path_mse,
    profile_of_weights,
    tail_sums,
    triangular_profile,
    window_mse,
    window_profile,
)

EXACT = 1e-9
TRACKERS = [
    EMA(rate=0.3),
    EMA(rate=0.4, importance=True),
    EMA(rate=1.0),
    Discounted(discount=0.7),
    Window(size=3),
    Kalman(sigma=0.8, drift=0.3),
    CertificateGain(sigma=0.8, drift=0.3),
]
PATTERN = np.array([1, 1, 0, 1, 1, 1, 0, 1, 1])  # visits of the enumerations
COUNT = np.array([1, 2, 1, 1, 3, 1, 1, 2, 1])  # and their observations


def weights_by_age(tracker, visited, count):
    """(T,) what each step's mean weighs in the shipped tracker's estimate, the newest first."""
    return value(tracker, run(tracker, np.eye(len(visited)), visited, count))[::-1]


# ------------------------------------------------------------------------------------------------------------- T0, T1-A

paths = st.lists(
    st.tuples(st.booleans(), st.integers(1, 3), st.floats(-1, 1), st.floats(-3, 3)), min_size=1, max_size=12
)


@given(st.sampled_from(TRACKERS), paths)
def test_an_error_is_what_its_decomposition_says_on_every_path(tracker, path):
    visited, count, drifts, noises = (np.array(x, dtype=float) for x in zip(*path, strict=True))
    visited[0] = 1
    target = np.cumsum(drifts)
    state = run(tracker, (target + noises)[None], visited, count)
    error = value(tracker, state)[0] - target[-1]
    weights = np.maximum(weights_by_age(tracker, visited, count), 0)
    parts = error_parts(weights, drifts[::-1], noises[::-1])
    assert sum(parts) == pytest.approx(error, abs=1e-9)
    bound = error_pathwise(certificate(tracker, state), noise=parts[2], drift=np.abs(drifts).max())
    assert abs(error) <= bound + 1e-9
    assert abs(parts[1]) <= path_bias(weights, drifts[::-1]) + 1e-12


@given(st.sampled_from(TRACKERS), paths)
def test_certificates_are_the_profile_of_the_weights(tracker, path):
    visited, count = (np.array(x, dtype=float) for x in list(zip(*path, strict=True))[:2])
    visited[0] = 1
    weights = np.maximum(weights_by_age(tracker, visited, count), 0)
    profile = profile_of_weights(weights, batch=count[::-1])
    shipped = certificate(tracker, run(tracker, np.zeros((1, len(visited))), visited, count))
    assert (profile.start, shipped.start) == (0, 0)
    assert profile.lag == pytest.approx(shipped.lag, rel=EXACT, abs=EXACT)
    assert profile.noise == pytest.approx(shipped.noise, rel=EXACT)


def test_the_start_counts_as_an_observation_of_no_noise():
    start, drift, noise = error_parts([0.5, 0.2], drifts=[1.0, 2.0], noises=[3.0, 4.0], initial=10.0, start=0.3)
    assert (start, drift, noise) == pytest.approx((3.0, -(0.5 * 1 + 0.3 * 2), 2.3))
    assert tail_sums([0.5, 0.2], start=0.3) == pytest.approx(np.array([0.5, 0.3]))
    assert error_pathwise(ema_profile(0.5, 1), noise=-0.25, drift=0.1, initial=2.0) == pytest.approx(1 + 0.05 + 0.25)


# ------------------------------------------------------------------------------------------------------ T1-C, profiles


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 4)), min_size=1, max_size=15))
def test_the_recursion_is_the_shipped_one(steps):
    gains, batch = (np.array(x, dtype=float) for x in zip(*steps, strict=True))
    state = recursion.init((1, 1))
    state["value"] += 1.0  # an initial value, watched as it fades while everything observed is 0
    for gain, n in steps:
        state = recursion.update(state, stats([1.0], [0.0], n), torch.full((1, 1), gain, dtype=torch.float64))
    profile = certificate_recursion(gains, batch)
    assert profile.start == pytest.approx(state["value"].item(), rel=EXACT, abs=1e-15)
    assert profile.lag == pytest.approx(state["lag"].item(), rel=EXACT)
    assert profile.noise == pytest.approx(state["noise"].item(), rel=EXACT)
    keep = np.append(np.cumprod((1 - gains)[::-1]), 0)  # T_1, T_2, … by age
    assert profile.walk == pytest.approx((keep**2).sum(), rel=EXACT)
    assert profile.lag == pytest.approx(keep.sum(), rel=EXACT)


@pytest.mark.parametrize("rate", [1e-6, 0.01, 0.1, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 257])
def test_closed_forms_are_the_recursion(rate, steps):
    assert ema_profile(rate, steps, batch=2) == pytest.approx(
        certificate_recursion(np.full(steps, rate), batch=2), rel=EXACT, abs=1e-15
    )
    gains = [1 / (1 if rate == 1 else sum((1 - rate) ** j for j in range(t))) for t in range(1, steps + 1)]
    assert corrected_ema_profile(rate, steps) == pytest.approx(certificate_recursion(gains), rel=EXACT, abs=1e-15)
    means = [1 / t for t in range(1, steps + 1)]
    assert cumulative_profile(steps) == pytest.approx(certificate_recursion(means), rel=EXACT, abs=1e-15)
    window = profile_of_weights(np.full(min(steps, 5), 1 / min(steps, 5)))
    assert window_profile(5, steps) == pytest.approx(window, rel=EXACT, abs=1e-15)


@pytest.mark.parametrize("steps", [1, 2, 9, 60])
def test_closed_forms_are_the_shipped_certificates(steps):
    for tracker, profile in [
        (EMA(rate=0.2), corrected_ema_profile(0.2, steps)),
        (Discounted(discount=0.8), corrected_ema_profile(0.2, steps)),
        (Window(size=7), window_profile(7, steps)),
        (Kalman(sigma=2.0, drift=0.0), cumulative_profile(steps)),
    ]:
        shipped = certificate(tracker, run(tracker, np.zeros((1, steps))))
        assert profile[:3] == pytest.approx(tuple(shipped), rel=EXACT, abs=1e-15)
    tracker = EMA(rate=0.2, importance=True)  # the first observation is the start
    shipped = certificate(tracker, run(tracker, np.zeros((1, steps + 1))))
    profile = ema_profile(0.2, steps)
    assert (profile.lag, profile.noise + profile.start**2) == pytest.approx((shipped.lag, shipped.noise), rel=EXACT)


@given(st.floats(0.05, 30))
def test_triangular_profile_is_that_of_its_weights(width):
    f = np.maximum(width - np.arange(31), 0)
    assert triangular_profile(width, batch=3) == pytest.approx(
        profile_of_weights(f / f.sum(), batch=3), rel=1e-9, abs=1e-12
    )


def test_settled_profiles_are_the_limits_of_young_ones():
    for rate in (0.3, 0.01):
        assert ema_profile(rate) == pytest.approx(ema_profile(rate, 10**6), rel=1e-12)
        assert corrected_ema_profile(rate, np.inf) == pytest.approx(corrected_ema_profile(rate, 10**6), rel=1e-9)
        assert corrected_ema_profile(rate, np.inf) == pytest.approx(ema_profile(rate), rel=1e-12)


# ------------------------------------------------------------------------------------------- T1, T2: exact mean squares


@pytest.mark.parametrize("tracker", TRACKERS, ids=repr)
def test_a_line_attains_the_oblivious_bound(tracker):
    drift, s = 0.37, 0.9
    target = drift * np.arange(PATTERN.size)
    noise = s * signs(PATTERN.size) / np.sqrt(COUNT)
    state = run(tracker, target + noise, PATTERN, COUNT)
    exact = np.mean((value(tracker, state) - target[-1]) ** 2)
    next_exact = np.mean((value(tracker, state) - target[-1] - drift) ** 2)
    shipped = certificate(tracker, state)
    assert mse(shipped, s, drift, adaptive=False) == pytest.approx(exact, rel=EXACT)
    assert mse(shipped, s, drift, when="next", adaptive=False) == pytest.approx(next_exact, rel=EXACT)
    assert mse(shipped, s, drift) >= exact


@given(st.sampled_from(TRACKERS), st.lists(st.floats(-1, 1), min_size=7, max_size=7), st.floats(0.1, 2))
def test_no_oblivious_path_exceeds_the_bound(tracker, drifts, s):
    target = np.cumsum(drifts)
    state = run(tracker, target + s * signs(7))
    exact = np.mean((value(tracker, state) - target[-1]) ** 2)
    assert exact <= mse(certificate(tracker, state), s, drift=1.0, adaptive=False) * (1 + 1e-12)


@pytest.mark.parametrize("tracker", TRACKERS, ids=repr)
@pytest.mark.parametrize("mean_step", [0.0, 0.25])
def test_a_random_walk_is_exact(tracker, mean_step):
    step, s, pattern, count = 0.6, 0.8, PATTERN[:5], COUNT[:5]
    both = signs(9)  # five noises and four steps
    target = np.concatenate([np.zeros((512, 1)), np.cumsum(mean_step + step * both[:, 5:], axis=1)], axis=1)
    state = run(tracker, target + s * both[:, :5] / np.sqrt(count), pattern, count)
    exact = np.mean((value(tracker, state) - target[:, -1]) ** 2)
    weights = np.maximum(weights_by_age(tracker, pattern, count), 0)
    profile = profile_of_weights(weights, batch=count[::-1])
    assert mse_random_walk(profile, s, step, mean_step) == pytest.approx(exact, rel=EXACT)


def test_random_walks_of_windows_and_means():
    assert mse_random_walk(window_profile(4), 2.0, 0.5) == pytest.approx(0.25 * 3 * 7 / 24 + 1)
    assert cumulative_mse_random_walk(10, 2.0, 0.5) == pytest.approx(0.25 * 9 * 19 / 60 + 0.4)
    assert cumulative_mse(10, 2.0, 0.5, adaptive=False) == pytest.approx(0.25 * 81 / 4 + 0.4)
    assert cumulative_mse(10, 2.0, 0.5) == pytest.approx((2.25 + np.sqrt(0.4)) ** 2)


# --------------------------------------------------------------------------------- the adversary who knows the error


def against_adversary(tracker, gains, drift, s, initial):
    """E e² against drift -D·sign(e) and two-point noise that makes |e| the same on every branch."""
    tree = Tree(tracker, initial=initial)
    v = initial
    for gain in gains:
        sign = np.where(tree.error >= 0, 1.0, -1.0)
        pull = (1 - gain) * (v + drift) * sign
        reach = np.hypot(pull, gain * s)
        noises = [((1 + side * pull / reach) / 2, (side * reach - pull) / gain) for side in (1, -1)]
        tree.step(-drift * sign, 1.0, noises)
        v = reach[0]
    return tree.mean(tree.error**2)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("initial", [0.0, 1.5])
def test_the_adversary_attains_the_adaptive_recursion(rate, initial):
    drift, s, steps = 0.4, 1.1, 9
    exact = against_adversary(EMA(rate=rate, importance=True), [rate] * steps, drift, s, initial)
    assert mse_recursion([rate] * steps, s, drift, initial=initial) == pytest.approx(exact, rel=EXACT)
    assert ema_mse(rate, s, drift, steps, initial) == pytest.approx(exact, rel=EXACT)


def test_the_adversary_attains_it_with_bias_corrected_gains_too():
    rate, drift, s, steps = 0.3, 0.5, 1.0, 9
    gains = [1 / sum(0.7**j for j in range(t)) for t in range(2, steps + 1)]
    # The tree's first observation is free of noise; the bound has it full of it.
    exact = against_adversary(EMA(rate=rate), gains, drift, s, 0.0)
    assert mse_recursion(gains, s, drift) == pytest.approx(exact, rel=EXACT)
    assert corrected_ema_mse_recursion(rate, s, drift, steps) == pytest.approx(
        mse_recursion(gains, s, drift, initial=s), rel=EXACT
    )


def test_the_adversary_breaks_the_oblivious_bound():
    rate, s = 0.2, 1.0
    drift = 0.2 * np.sqrt(rate / (2 - rate) / 2) / 0.8  # squared bias half the variance
    settled = ema_mse(rate, s, drift, adaptive=False)
    exact = against_adversary(EMA(rate=rate, importance=True), [rate] * 9, drift, s, np.sqrt(ema_mse(rate, s, drift)))
    assert exact > 1.2 * settled


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12),
    st.floats(0, 3),
    st.floats(0, 3),
    st.floats(0, 3),
)
def test_adaptive_bounds_are_ordered(gains, s, drift, initial):
    profile = certificate_recursion(gains)
    oblivious = mse(profile, s, drift, initial, adaptive=False)
    sharp = mse_recursion(gains, s, drift, initial=initial)
    assert mse_recursion(gains, s, drift, initial=initial, adaptive=False) == pytest.approx(oblivious, abs=1e-15)
    assert oblivious <= sharp * (1 + 1e-9) + 1e-15
    assert sharp <= mse(profile, s, drift, initial) * (1 + 1e-9) + 1e-15
    assert mse(profile, s, drift, initial) <= 2 * oblivious * (1 + 1e-9) + 1e-15  # (x + y)² ≤ 2(x² + y²)


@pytest.mark.parametrize("steps", [1, 2, 30, 3000, 50_000])
@pytest.mark.parametrize("rate", [0.003, 0.2, 1.0])
def test_bias_corrected_bounds_are_ordered(rate, steps):
    args = (rate, 1.3, 0.07, steps)
    sharp = corrected_ema_mse_recursion(*args)
    assert corrected_ema_mse(*args, adaptive=False) <= sharp * (1 + 1e-9)
    assert sharp <= corrected_ema_mse(*args) * (1 + 1e-9)
    if rate * steps > 200:
        assert corrected_ema_mse(*args) == pytest.approx(ema_mse(rate, 1.3, 0.07), rel=1e-9)


def test_formulas_of_the_table():
    a, t = 0.7, 5
    lag, noise = a / 0.3 - t * a**t / (1 - a**t), 0.3 / 1.7 * (1 + a**t) / (1 - a**t)
    assert corrected_ema_mse(0.3, 2.0, 0.1, t, batch=4, adaptive=False) == pytest.approx((0.1 * lag) ** 2 + noise)
    assert corrected_ema_mse(0.3, 2.0, 0.1, t, when="next") == pytest.approx((0.1 * (lag + 1) + 2 * noise**0.5) ** 2)
    assert window_mse(5, 2.0, 0.1, batch=4, adaptive=False) == pytest.approx(0.04 + 0.2)
    assert window_mse(5, 2.0, 0.1, when="next") == pytest.approx((0.3 + 2 / np.sqrt(5)) ** 2)


# --------------------------------------------------------------------------------------------------------- path length


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=40), st.floats(0.05, 1), st.floats(0, 2))
def test_path_length_bounds_the_average(drifts, rate, s):
    bias, square = 0.0, 0.0
    for t, drift in enumerate(drifts, start=1):
        bias = (1 - rate) * (bias - drift)
        square += bias**2 + ema_mse(rate, s, 0.0, t, adaptive=False)
    bound = path_mse(rate, s, np.mean(np.square(drifts)), adaptive=False)
    assert square / len(drifts) <= bound * (1 + 1e-12)
    assert bound <= path_mse(rate, s, np.mean(np.square(drifts))) * (1 + 1e-12)


def test_path_length_is_sharp_for_steady_drift():
    rate, drift, s, steps = 0.2, 0.3, 0.7, 4000
    average = np.mean(ema_mse(rate, s, drift, np.arange(1, steps + 1), adaptive=False))
    assert average == pytest.approx(path_mse(rate, s, drift**2, adaptive=False), rel=2e-3)
    assert path_bias(np.full(4, 0.25), np.full(4, -2.0)) == pytest.approx(3.0)  # a window of 4 lags by 1.5


def test_path_length_under_an_adversary():
    """Drift against the error, with the noise that keeps it going: more than the oblivious average allows."""
    rate, s, steps = 0.5, 1.0, 10
    drift = np.sqrt(rate / (2 - rate) / 2)
    squares = [against_adversary(EMA(rate=rate, importance=True), [rate] * t, drift, s, 0.0) for t in range(1, steps)]
    assert squares[-1] > path_mse(rate, s, drift**2, adaptive=False)
    assert np.mean(squares) <= path_mse(rate, s, drift**2)
    bias = np.sqrt(path_mse(rate, 0.0, drift**2, batch=4))
    noise = np.sqrt(path_mse(rate, s, 0.0, batch=4))
    assert (bias, noise) == pytest.approx((drift, np.sqrt(1 / 12)))
    assert path_mse(rate, s, drift**2, batch=4) == pytest.approx((bias + noise) ** 2)
