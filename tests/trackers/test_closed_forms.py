"""Trackers against naive re-computations from all observations, and certificates against explicit weights."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aria.interfaces import RegionStats
from aria.statistics import one_each
from aria.trackers import EMA, Bank, CertificateGain, Discounted, DiscountedUCB, Kalman, Progress, Window, WindowUCB
from tests.strategies import stats_of, steps

K = 3


def run(tracker, history):
    state = tracker.init((K,))
    for step in history:
        state = tracker.update(state, stats_of(step, K))
    return state


def visits(history, region):
    """(time, observations) of each visit of a region."""
    seen = [(t, [y for k, y in step if k == region]) for t, step in enumerate(history, start=1)]
    return [(t, ys) for t, ys in seen if ys]


def check_weighted(tracker, history, weigh):
    """Value and certificate equal those of explicit weights per visit, which ``weigh(visits, now)`` gives."""
    state = run(tracker, history)
    value, _ = tracker.estimate(state)
    start, lag, noise = tracker.certificate(state)
    now = len(history)
    for region in range(K):
        past = visits(history, region)
        if not past:
            assert start[region] == 1
            continue
        weights = weigh(past, now)
        assert start[region] == 0
        if sum(weights) == 0:
            continue
        assert value[region].item() == pytest.approx(
            sum(w * np.mean(ys) for w, (_, ys) in zip(weights, past, strict=True)), rel=1e-9, abs=1e-9
        )
        assert lag[region].item() == pytest.approx(
            sum(w * (now - t) for w, (t, _) in zip(weights, past, strict=True)), rel=1e-9, abs=1e-9
        )
        assert noise[region].item() == pytest.approx(
            sum(w * w / len(ys) for w, (_, ys) in zip(weights, past, strict=True)), rel=1e-9
        )


@given(steps(K), st.floats(0.01, 1))
def test_ema_weighs_visits_geometrically(history, rate):
    def weigh(past, now):
        raw = [rate * (1 - rate) ** j for j in reversed(range(len(past)))]
        return [w / sum(raw) for w in raw]

    check_weighted(EMA(rate=rate), history, weigh)


@given(steps(K), st.floats(0.05, 0.99))
def test_discounted_weighs_observations_by_age(history, discount):
    def weigh(past, now):
        raw = [len(ys) * discount ** (now - t) for t, ys in past]
        return [w / sum(raw) for w in raw]

    check_weighted(Discounted(discount=discount), history, weigh)


@given(steps(K, max_steps=20), st.integers(1, 6))
def test_window_equals_a_deque_exactly(history, size):
    history = [
        [(region, round(64 * y) / 64) for region, y in step] for step in history
    ]  # such numbers add without rounding
    tracker = Window(size=size)
    value, _ = tracker.estimate(run(tracker, history))
    for region in range(K):
        last = deque(visits(history, region), maxlen=size)
        pooled = [y for _, ys in last for y in ys]
        if pooled:
            assert value[region].item() == math.fsum(pooled) / len(pooled)


@given(steps(K, max_steps=20), st.integers(1, 6))
def test_window_certificate(history, size):
    def weigh(past, now):
        kept = [0] * max(0, len(past) - size) + [len(ys) for _, ys in past[-size:]]
        return [n / sum(kept) for n in kept]

    check_weighted(Window(size=size), history, weigh)


@given(steps(K, max_steps=20), st.integers(1, 6))
def test_window_ucb_counts_steps(history, size):
    tracker = WindowUCB(sigma=1.0, drift=0.5, size=size, delta=0.1)
    state = run(tracker, history)
    value, spread = tracker.estimate(state)
    now, c = len(history), size / 10
    for region in range(K):
        recent = [(t, ys) for t, ys in visits(history, region) if t > now - size]
        n = sum(len(ys) for _, ys in recent)
        if n == 0:
            assert spread[region] == math.inf
            continue
        lag = sum(len(ys) * (now - t) for t, ys in recent) / n
        expected = 0.5 * lag + math.sqrt((n + c) * math.log((n + c) / (c * 0.1**2))) / n
        assert value[region].item() == pytest.approx(sum(sum(ys) for _, ys in recent) / n, rel=1e-12)
        assert spread[region].item() == pytest.approx(expected, rel=1e-9)


@given(steps(K, max_steps=20), st.floats(0.3, 0.95))
def test_discounted_ucb_radius(history, discount):
    tracker = DiscountedUCB(sigma=2.0, drift=0.5, discount=discount, delta=0.1)
    _, spread = tracker.estimate(run(tracker, history))
    now, c = len(history), 0.05 / (1 - discount**2)
    for region in range(K):
        past = visits(history, region)
        n = sum(len(ys) * discount ** (now - t) for t, ys in past)
        n2 = sum(len(ys) * discount ** (2 * (now - t)) for t, ys in past)
        if n == 0:
            assert spread[region] == math.inf
            continue
        lag = sum(len(ys) * discount ** (now - t) * (now - t) for t, ys in past) / n
        expected = 0.5 * lag + 2.0 * math.sqrt((n2 + c) * math.log((n2 + c) / (c * 0.1**2))) / n
        assert spread[region].item() == pytest.approx(expected, rel=1e-9)


@given(steps(K), st.floats(0.1, 2), st.floats(0, 1))
def test_kalman_equals_the_textbook_covariance_form(history, sigma, drift):
    tracker = Kalman(sigma=sigma, drift=drift)
    value, stderr = tracker.estimate(run(tracker, history))
    for region in range(K):
        mean, variance = 0.0, math.inf
        for step in history:
            ys = [y for k, y in step if k == region]
            variance += drift**2
            if ys:
                noise = sigma**2 / len(ys)
                gain = 1.0 if math.isinf(variance) else variance / (variance + noise)
                mean, variance = mean + gain * (np.mean(ys) - mean), gain * noise
        assert stderr[region].item() == pytest.approx(math.sqrt(variance), rel=1e-9)
        if math.isfinite(variance):
            assert value[region].item() == pytest.approx(mean, rel=1e-8, abs=1e-9)


def settle(tracker, steps=5000):
    state = tracker.init((1,))
    for _ in range(steps):
        state = tracker.update(state, one_each([1.0]))
    return state


@pytest.mark.parametrize(("sigma", "drift"), [(1.0, 0.1), (0.5, 0.5), (2.0, 0.01)])
def test_kalman_settles_at_the_riccati_gain(sigma, drift):
    ratio = (drift / sigma) ** 2
    gain = (-ratio + math.sqrt(ratio**2 + 4 * ratio)) / 2
    stderr = Kalman(sigma=sigma, drift=drift).estimate(settle(Kalman(sigma=sigma, drift=drift))).stderr
    assert stderr.item() == pytest.approx(sigma * math.sqrt(gain), rel=1e-9)


@pytest.mark.parametrize("rho", [0.01, 0.05, 0.3])
def test_certificate_gain_settles_at_its_fixed_point(rho):
    """There b³ = 2ρ²(1-b)(2-b), and lag = (1-b)/b gives b back."""
    _, lag, noise = CertificateGain(sigma=1.0, drift=rho).certificate(settle(CertificateGain(sigma=1.0, drift=rho)))
    rate = 1 / (1 + lag.item())
    # r/(1-r) = 2ρ²/r² + r/(2-r) at the fixed point
    assert rate / (1 - rate) == pytest.approx(2 * rho**2 / rate**2 + rate / (2 - rate), rel=1e-6)
    assert noise.item() == pytest.approx(rate / (2 - rate), rel=1e-6)


@given(steps(K), st.integers(1, 9), st.floats(0.005, 0.3))
def test_bank_equals_its_definition(history, size, forget):
    tracker = Bank(size=size, forget=forget)
    value, _ = tracker.estimate(run(tracker, history))
    gamma = 1 - forget
    for region in range(K):
        experts, losses, norm, count = np.zeros(size), np.zeros(size), 0.0, 0
        for _, ys in visits(history, region):
            mean, n = np.mean(ys), len(ys)
            if count:
                losses = gamma * losses + n * (mean - experts) ** 2
                norm = gamma * norm + 1
            count += n
            experts = experts + np.maximum(2.0 ** -np.arange(size), n / count) * (mean - experts)
        if count:
            excess = losses - losses.min()
            v = losses.min() / norm if norm else 0.0
            weights = np.where(excess == 0, 1.0, 0.0) if v == 0 else np.exp(-gamma * excess / (2 * v))
            assert value[region].item() == pytest.approx(float(weights @ experts / weights.sum()), rel=1e-6, abs=1e-6)


@given(
    st.floats(0.01, 0.2),
    st.floats(0.2, 1),
    st.floats(0, 10),
    st.floats(0, 10),
    st.lists(st.floats(0, 10), min_size=1, max_size=4),
)
def test_residual_importance_weighting_is_unbiased_whatever_the_visit_probability(rate, visit, first, truth, past):
    """E[m] over visited / not visited moves by exactly b(μ - m)."""
    tracker, one = EMA(rate=rate, importance=True), torch.ones(1, dtype=torch.float64)
    state = tracker.update(tracker.init((1,)), one_each([first]))
    for y in past:
        state = tracker.update(state, one_each([y]))
    before = tracker.estimate(state).value

    def after(n):
        stats = RegionStats(n * one, n * truth * one, n * truth**2 * one, visit * one)
        return tracker.estimate(tracker.update(state, stats)).value

    expected = visit * after(1) + (1 - visit) * after(0)
    assert expected.item() == pytest.approx((before + rate * (truth - before)).item(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_ema_error_attains_its_certificate_on_a_drifting_line(rate):
    """All 2^T sign patterns of the noise: the mean squared error is (D·lag)² + s²·noise exactly."""
    steps_, drift, s = 8, 0.3, 0.7
    signs = 2 * ((torch.arange(2**steps_)[:, None] >> torch.arange(steps_)) & 1).double() - 1  # (2^T, T)
    tracker = EMA(rate=rate)
    state = tracker.init((2**steps_, 1))
    for t in range(steps_):
        state = tracker.update(state, one_each(drift * t + s * signs[:, t : t + 1]))
    error = tracker.estimate(state).value - drift * (steps_ - 1)
    _, lag, noise = (part[0] for part in tracker.certificate(state))
    assert (error**2).mean().item() == pytest.approx(((drift * lag) ** 2 + s**2 * noise).item(), rel=1e-9)


@given(st.floats(0.05, 0.9), st.floats(0.05, 0.5), st.floats(-1, 1))
def test_progress_reads_the_slope_of_a_line(inner, rate, slope):
    tracker = Progress(of=EMA(rate=inner), rate=rate)
    state = tracker.init((1,))
    for t in range(round(30 / min(inner, rate))):  # until either average has forgotten its start but for e^-30
        state = tracker.update(state, one_each([1000 - slope * t]))
    assert tracker.estimate(state).value.item() == pytest.approx(slope, abs=1e-6)


def test_unknown_noise_is_read_from_the_data():
    """400 replicas: the standard error of a settled EMA matches the spread of its estimates."""
    random = torch.Generator().manual_seed(0)
    tracker = EMA(rate=0.05)
    state = tracker.init((400, 1))
    for _ in range(300):
        state = tracker.update(state, one_each(10 + 2 * torch.randn(400, 1, generator=random, dtype=torch.float64)))
    value, stderr = tracker.estimate(state)
    # The deviation of 400 values has a relative standard error of 1/√800: 18 % are 5.1 of them, false alarm 3e-7.
    assert stderr.mean().item() == pytest.approx(value.std().item(), rel=0.18)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: EMA(rate=0), r"rate must lie in \(0, 1\], got 0"),
        (lambda: EMA(rate=1.5), r"rate must lie in \(0, 1\], got 1.5"),
        (lambda: EMA(sigma=-1.0), "sigma must be positive and finite, got -1.0"),
        (lambda: Discounted(discount=1.0), r"discount must lie in \(0, 1\), got 1.0"),
        (lambda: Window(size=0), "size must be a whole number of at least 1, got 0"),
        (lambda: Window(size=2.5), "size must be a whole number of at least 1, got 2.5"),
        (lambda: Kalman(sigma=0.0, drift=0.1), "sigma must be positive and finite, got 0.0"),
        (lambda: Kalman(sigma=1.0, drift=-0.1), "drift must be non-negative and finite, got -0.1"),
        (lambda: DiscountedUCB(sigma=1.0, drift=0.0, delta=0.0), r"delta must lie in \(0, 1\), got 0.0"),
        (lambda: Bank(size=0), "size must be a whole number of at least 1, got 0"),
        (lambda: Progress(of="ema"), r"Progress\(of=…\) takes a tracker, got 'ema'"),
    ],
)
def test_bad_hyper_parameters_are_named(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
