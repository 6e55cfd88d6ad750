"""Regimes solved exactly, against the shipped tracker run on them."""

from __future__ import annotations

import numpy as np
import pytest

from aria.trackers import EMA
from tests.theory.exact import run, signs, value
from theory.bounds import (
    decay_bias,
    ema_mse,
    heteroscedastic_variance,
    jump_mse,
    path_bias,
    sinusoid_bias,
    sinusoid_drift,
    sinusoid_mse,
)


def errors(rate, target, start):
    """Errors of the shipped EMA without noise, at every step, from an estimate of ``start``."""
    tracker, state, found = EMA(rate=rate, importance=True), None, []
    for t in range(len(target) + 1):
        state = run(tracker, np.array([[start]])) if t == 0 else tracker.update(state, one(target[t - 1]))
        found.append(value(tracker, state)[0] - (target[t - 1] if t else start))
    return np.array(found[1:])


def one(y):
    from aria.statistics import one_each

    return one_each([[y]])


@pytest.mark.parametrize("rate", [0.05, 0.4, 1.0])
@pytest.mark.parametrize("cycle", [3, 8, 50])
def test_sinusoid(rate, cycle):
    """Over whole periods the mean square of a sinusoid is half the squared amplitude."""
    frequency = 2 * np.pi / cycle
    target = 1.7 * np.sin(frequency * np.arange(900))
    late = errors(rate, target, 0.0)[-cycle * (450 // cycle) :]
    assert 2 * np.mean(late**2) == pytest.approx(sinusoid_bias(rate, 1.7, frequency) ** 2, rel=1e-9, abs=1e-12)
    whole = np.mean(late**2) + 0.25 * rate / (2 - rate) / 3
    assert sinusoid_mse(rate, 0.5, 1.7, frequency, batch=3) == pytest.approx(whole, rel=1e-9)
    steps = 1.7 * np.diff(np.sin(frequency * np.linspace(-0.5, 0.5, 2)))
    assert sinusoid_drift(1.7, frequency) == pytest.approx(steps.item())
    worst = ema_mse(rate, 0.5, sinusoid_drift(1.7, frequency), batch=3, adaptive=False)
    assert sinusoid_mse(rate, 0.5, 1.7, frequency, batch=3) <= worst


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("initial", [0.0, -0.7])
def test_decay(rate, decay, initial):
    start = 2.0  # C, so that the truth at time 0 is 2 above where it ends
    target = start * decay ** np.arange(1, 21)
    found = errors(rate, target, start + initial)
    expected = decay_bias(rate, start, decay, np.arange(1, 21), initial)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    drifts = np.diff(np.concatenate([[start], target]))[::-1]
    weights = np.append(rate * (1 - rate) ** np.arange(19), 0)
    bound = path_bias(np.append(weights[:19], rate * (1 - rate) ** 19), drifts, (1 - rate) ** 20)
    assert abs(decay_bias(rate, start, decay, 20)) <= bound + 1e-12


@pytest.mark.parametrize("rate", [0.1, 0.6, 1.0])
def test_jump(rate):
    found = errors(rate, np.full(6, 3.0), 0.0)
    for visits in range(1, 7):
        exact = found[visits - 1] ** 2 + 0.49 * rate / (2 - rate) / 2
        assert jump_mse(rate, 0.7, 3.0, visits, batch=2) == pytest.approx(exact, rel=1e-9, abs=1e-12)
    assert jump_mse(rate, 0.0, 3.0, 0) == pytest.approx(9.0)


@pytest.mark.parametrize("rate", [0.1, 0.6, 1.0])
def test_noise_of_changing_size(rate):
    deviations = np.array([0.0, 1.0, 0.3, 2.0, 0.5, 1.5])  # in order of time; the first observation is exact
    tracker = EMA(rate=rate, importance=True)
    estimates = value(tracker, run(tracker, signs(6) * deviations))
    assert np.mean(estimates**2) == pytest.approx(heteroscedastic_variance(rate, deviations[:0:-1] ** 2), rel=1e-9)
    assert heteroscedastic_variance(rate, np.full(500, 2.0)) == pytest.approx(2.0 * rate / (2 - rate), rel=1e-9)
