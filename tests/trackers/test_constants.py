"""The trackers' constants, each by a value that depends on it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from aria import trackers
from aria.interfaces import RegionStats
from aria.statistics import from_samples, one_each
from aria.trackers import EMA, Bank, CertificateGain, Constant, Kalman, Progress, SecondMoment, Window, recursion

DEFAULTS = {
    "Bank": {"size": 9, "forget": 0.005},
    "CertificateGain": {},
    "Constant": {"level": 1.0},
    "Discounted": {"discount": 0.99, "sigma": None},
    "DiscountedUCB": {"discount": 0.99, "delta": 0.05},
    "EMA": {"rate": 0.1, "importance": False, "sigma": None},
    "Kalman": {},
    "Progress": {"of": EMA(), "rate": 0.05},
    "SecondMoment": {"of": EMA()},
    "Window": {"size": 16, "sigma": None},
    "WindowUCB": {"size": 100, "delta": 0.05},
}


def defaults(cls: type) -> dict[str, object]:
    found = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    return found


@pytest.mark.parametrize("name", trackers.__all__)
def test_defaults(name):
    """Whoever leaves a setting out gets this value: changing one changes every run."""
    assert defaults(getattr(trackers, name)) == DEFAULTS[name]


def test_limits_of_settings():
    """The least that is allowed is allowed."""
    for make in (lambda: Bank(size=1), lambda: Window(size=1), lambda: trackers.WindowUCB(1.0, 0.0, size=1)):
        assert make().size == 1


def after(tracker, visits):
    """The state of one region after visits, each a list of observations."""
    state = tracker.init((1,))
    for seen in visits:
        state = tracker.update(state, from_samples([0] * len(seen), seen, num_regions=1))
    return state


def estimate(tracker, visits):
    value, stderr = tracker.estimate(after(tracker, visits))
    return value.item(), stderr.item()


# --------------------------------------------------------------------------------------------------------------- bank


def bank_by_hand(size, forget, visits):
    """Value and standard error of the bank, as its docstring says, one number at a time."""
    gamma = 1 - forget
    experts, losses, norm, count, latest = np.zeros(size), np.zeros(size), 0.0, 0, 0
    for seen in visits:
        if not seen:
            continue
        mean, n = np.mean(seen), len(seen)
        if count:
            losses, norm = gamma * losses + n * (mean - experts) ** 2, gamma * norm + 1
        count, latest = count + n, n
        experts = experts + np.maximum(2.0 ** -np.arange(size), n / count) * (mean - experts)
    v = losses.min() / max(norm, 1)
    weights = np.exp(-gamma * (losses - losses.min()) / (2 * v))
    weights /= weights.sum()
    value = weights @ experts
    spread = weights @ (experts - value) ** 2
    gain = weights @ np.maximum(2.0 ** -np.arange(size), latest / count) / latest
    pseudo = (losses.min() + value**2) / (norm + 1)
    return value, math.sqrt(gain * pseudo + spread)


@pytest.mark.parametrize("visits", [[[3.0], [1.0, 2.0], [], [4.0, 4.5, 2.5]], [[3.0], [1.0], [0.5], [2.5], [2.0]]])
@pytest.mark.parametrize(("size", "forget"), [(4, 0.2), (9, 0.005), (4, 0.95)])
def test_bank_has_the_documented_standard_error(size, forget, visits):
    assert estimate(Bank(size=size, forget=forget), visits) == pytest.approx(bank_by_hand(size, forget, visits))


def test_bank_with_one_far_better_expert_listens_to_it_alone():
    """Weights fall to e^-1000 and no further: nothing, yet no 0/0."""
    tracker = Bank(size=2)
    state = after(tracker, [[1.0], [1.0], [1.0]])
    assert tracker.weights(state).tolist() == [[0.5, 0.5]]  # both are right
    weights = tracker.weights(state | {"loss": torch.tensor([[1.0, 1e9]], dtype=torch.float64)})
    assert weights[0, 0] == 1 and weights[0, 1] == 0


# ------------------------------------------------------------------------------------------- gains set by a certificate


def test_certificate_gain_is_its_recursion():
    sigma, drift = 0.7, 0.3
    tracker = CertificateGain(sigma=sigma, drift=drift)
    value, lag, noise = 0.0, 0.0, 0.0
    visits = [[2.0], [], [1.0, 5.0], [3.0]]
    for at, seen in enumerate(visits):
        n, y = len(seen), np.mean(seen) if seen else 0.0
        doubt = 2 * (drift * (lag + 1)) ** 2 + sigma**2 * noise
        gain = 0.0 if not seen else 1.0 if at == 0 else doubt / (doubt + sigma**2 / n)
        value, lag = value + gain * (y - value), (1 - gain) * (lag + 1)
        noise = (1 - gain) ** 2 * noise + (gain**2 / n if seen else 0.0)
    assert estimate(tracker, visits) == pytest.approx((value, drift * lag + sigma * math.sqrt(noise)), rel=1e-12)


def test_kalman_by_hand():
    """Information 4 from one observation of deviation 1/2; a step of drift 3 leaves 4/37 of it."""
    assert estimate(Kalman(sigma=0.5, drift=3.0), [[1.0]])[1] == pytest.approx(0.5)
    value, stderr = estimate(Kalman(sigma=0.5, drift=3.0), [[1.0], [2.0]])
    assert stderr == pytest.approx((4 / 37 + 4) ** -0.5, rel=1e-12)
    assert value == pytest.approx(1 + 4 / (4 / 37 + 4), rel=1e-12)


# --------------------------------------------------------------------------------------------------- rules of averages


def test_constant_only_records_which_regions_were_observed():
    tracker = Constant(level=3.0)
    state = tracker.update(tracker.init((2,)), from_samples([0, 0], [7.0, 9.0], num_regions=2))
    value, stderr = tracker.estimate(state)
    assert value.tolist() == [3, 3] and stderr.tolist() == [0, math.inf]


def test_importance_weighting_never_overshoots():
    """Rate 0.5 at a visit of probability 0.1 asks for a gain of 5: the estimate lands on the observation instead."""
    tracker = EMA(rate=0.5, importance=True)
    one = torch.ones(1, dtype=torch.float64)
    state = tracker.update(tracker.init((1,)), one_each([4.0]))
    state = tracker.update(state, RegionStats(one, one, one, 0.1 * one))
    assert tracker.estimate(state).value.item() == 1.0


@pytest.mark.parametrize("rate", [0.25, 0.05])
def test_progress_follows_as_an_average_that_starts_at_its_first_estimate(rate):
    """of = the last observation; after 4, 2, 2 the slow average is 2 + 2(1-b)², and it lags by (1-b)/b slopes."""
    tracker = Progress(of=EMA(rate=1.0, sigma=2.0), rate=rate)
    value, stderr = estimate(tracker, [[4.0], [2.0], [2.0]])
    assert value == pytest.approx(2 * (1 - rate) ** 2 * rate / (1 - rate), rel=1e-12)
    assert stderr == pytest.approx(2 * rate / (1 - rate), rel=1e-12)


def test_second_moment_of_several_is_their_mean_square():
    tracker = SecondMoment(of=EMA(rate=0.5, sigma=1.0))
    assert estimate(tracker, [[1.0, 3.0], [2.0, 4.0]])[0] == pytest.approx((0.25 * 5 + 0.5 * 10) / 0.75)
    assert estimate(tracker, [[1.0, 3.0, 5.0]])[1] == 1.0  # shown as one observation
    assert estimate(tracker, [[3.0]])[0] == 9.0


def test_noise_read_from_the_data():
    """Weighted variance plus (noise · value)², times noise; a region seen once is trusted to within its own size."""
    assert estimate(EMA(rate=0.5), [[3.0]]) == pytest.approx((3.0, 3.0))
    value, noise, square = (1 + 2 * 4) / 3, 5 / 9, (1 + 2 * 16) / 3
    expected = math.sqrt((square - value**2 + (noise * value) ** 2) * noise)
    assert estimate(EMA(rate=0.5), [[1.0], [4.0]]) == pytest.approx((value, expected), rel=1e-12)


def test_known_noise_scales_the_standard_error():
    assert estimate(EMA(rate=0.5, sigma=3.0), [[1.0], [4.0]])[1] == pytest.approx(3 * math.sqrt(5 / 9), rel=1e-12)
    assert estimate(Window(size=4, sigma=3.0), [[1.0], [4.0, 5.0, 6.0]])[1] == pytest.approx(1.5, rel=1e-12)


def test_a_window_that_saw_nothing_ages():
    """No observation has age 0: the age of nothing is the time that has passed."""
    tracker = Window(size=2)
    assert tracker.certificate(after(tracker, [[], [], []])).lag.item() == 3
    assert tracker.certificate(after(tracker, [[1.0], [], []])).lag.item() == 2


def test_the_ring_takes_no_more_memory_than_documented():
    """Window: 4 sums of 8 bytes a slot, so 32 bytes for each region and step, as documented."""
    state = trackers.WindowUCB(1.0, 0.0, size=10).init((5,))
    assert state["ring"].nbytes == 32 * 5 * 10


def test_a_root_keeps_small_numbers():
    """Variances down to 1e-300 have their root; below, they count as that."""
    variance = torch.tensor([4.0, 1e-290, 0.0], dtype=torch.float64)
    root = recursion.root_or_inf(variance, evidence=torch.ones(3, dtype=torch.float64))
    assert root.tolist() == pytest.approx([2.0, 1e-145, 1e-150], rel=1e-12, abs=0)


def test_confidence_radii_by_hand():
    """Prior counts: a tenth of the window, 0.05/(1-γ²) for the discounted mean."""
    n, c = 3, 0.8
    expected = 0.5 + 2 * math.sqrt((n + c) * math.log((n + c) / (c * 0.1**2))) / n
    tracker = trackers.WindowUCB(sigma=2.0, drift=0.5, size=8, delta=0.1)
    assert estimate(tracker, [[1.0], [2.0], [6.0]]) == pytest.approx((3.0, expected), rel=1e-12)
    n, square, lag, c = 1.75, 1 + 1 / 4 + 1 / 16, (0.5 + 0.25 * 2) / 1.75, 0.05 / 0.75
    expected = 0.5 * lag + 2 * math.sqrt((square + c) * math.log((square + c) / (c * 0.1**2))) / n
    tracker = trackers.DiscountedUCB(sigma=2.0, drift=0.5, discount=0.5, delta=0.1)
    assert estimate(tracker, [[1.0], [2.0], [6.0]]) == pytest.approx((7.25 / 1.75, expected), rel=1e-12)
