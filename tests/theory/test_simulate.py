"""The simulator against exact laws, against plain loops and against itself.

Statistical checks have false alarm 1e-6 each, with fixed seeds; beside each stands a wrong reference it rejects.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aria import trackers
from aria.interfaces import Estimate, RegionStats
from aria.trackers import EMA, Bank, CertificateGain, Constant, Discounted, Kalman, Progress, Window
from theory import exact_samples, moments
from theory.errors import RECORDS
from theory.regimes import (
    NAMED,
    Allocated,
    Bernoulli,
    Binomial,
    ClosedLoop,
    Decay,
    Drift,
    EffortCoupled,
    EveryStep,
    Gaussian,
    Heteroscedastic,
    Linear,
    Noise,
    Rademacher,
    RandomWalk,
    ReflectedWalk,
    Regime,
    Seen,
    Selective,
    SignAdversary,
    Sinusoid,
    Sparse,
    StudentT,
    TwoPoint,
    Visits,
)
from theory.simulate import common, simulate

ALARM = 1e-6
Z = scipy.stats.norm.isf(ALARM / 2)  # 4.89

MEAN_TRACKERS = [
    example
    for name in trackers.__all__
    for example in getattr(trackers, name).examples()
    if example.statistic in ("mean", "constant")
]
LINEAR = [
    EMA(rate=0.2),
    EMA(rate=1.0),
    Discounted(discount=0.9),
    Window(size=7),
    Kalman(sigma=1.0, drift=0.1),
    CertificateGain(sigma=1.0, drift=0.05),
]


def off(moments_, mean=None, square=None):
    """How many standard errors the mean, or the mean square, is from what it should be."""
    if square is None:
        return abs(float(moments_.mean - mean) / float(moments_.mean_stderr))
    return abs(float(moments_.square - square) / float(moments_.square_stderr))


def normal_law(sample, mean, variance):
    """p-values of the mean and of the variance of normal numbers, separately."""
    n, sample = sample.numel(), sample.flatten()
    z = float((sample.mean() - mean) / math.sqrt(variance / n))
    chi = float(((sample - sample.mean()) ** 2).sum() / variance)
    law = scipy.stats.chi2(n - 1)
    return 2 * scipy.stats.norm.sf(abs(z)), 2 * min(law.cdf(chi), law.sf(chi))


# --------------------------------------------------------------------------------------- the loop is the definition


@dataclass(frozen=True)
class Told(Noise):
    """Noise that is a known function of step, replica and region."""

    sigma: float = 1.0

    def step(self, state, past, random):
        r, k = torch.arange(random.shape[0])[:, None], torch.arange(random.shape[1])
        return torch.sin(1.0 + 3.0 * past.step + 5.0 * r + 7.0 * k).double(), state


@dataclass(frozen=True)
class Turns(Visits):
    """Visits by turns, with batches of 0, 1 and 2."""

    batched = True
    least = 0.1

    def step(self, state, past, random):
        r, k = torch.arange(random.shape[0])[:, None], torch.arange(random.shape[1])
        return Seen(((past.step + r + 2 * k) % 3).double(), torch.full(random.shape, 0.5).double()), state


@pytest.mark.parametrize("visits", [EveryStep(), EveryStep(batch=2), Turns()], ids=repr)
@pytest.mark.parametrize("tracker", MEAN_TRACKERS, ids=repr)
def test_the_loop_is_the_definition(tracker, visits):
    """One replica and region at a time, by hand, with the shipped tracker."""
    steps, shape, drift = 9, (4, 3), 0.1
    found = simulate(
        tracker, Regime(Linear(drift), Told(), visits, level=(1.0, 2.0, 3.0)), steps=steps, replicas=4, block=4
    )
    for r in range(shape[0]):
        for k in range(shape[1]):
            state, truth, before = tracker.init((1,)), 1.0 + k, None
            for step in range(1, steps + 1):
                truth += drift
                n = visits.batch if isinstance(visits, EveryStep) else (step + r + 2 * k) % 3
                y = truth + math.sin(1.0 + 3.0 * step + 5.0 * r + 7.0 * k) / math.sqrt(max(n, 1))
                before = tracker.estimate(state).value
                fields = (n, n * y, n * y * y + max(n - 1, 0), 1.0 if isinstance(visits, EveryStep) else 0.5)
                state = tracker.update(state, RegionStats(*(torch.tensor([f], dtype=torch.float64) for f in fields)))
            value = tracker.estimate(state).value
            assert found["filtering"][r, k] == pytest.approx(float(value) - truth, rel=1e-6, abs=1e-6)
            assert found["prediction"][r, k] == pytest.approx(float(before) - truth, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("visits", [EveryStep(), EveryStep(batch=3), Bernoulli(0.5), Turns()], ids=repr)
def test_the_sums_shown_to_a_tracker_are_those_of_its_batches(visits):
    """Sum of squares: n ȳ² and what n - 1 deviations within the batch are expected to add."""
    shown = []

    @dataclass(frozen=True)
    class Watching(EMA):
        def update(self, state, stats):
            shown.append(stats)
            return super().update(state, stats)

    simulate(Watching(), Regime(Linear(0.1), Told(sigma=0.6), visits), steps=5, replicas=6)
    for step, (n, total, square, _) in enumerate(shown[-5:], start=1):
        n = n.expand_as(total)
        noise = Told().step({}, SimpleNamespace(step=step), SimpleNamespace(shape=(6, 1)))[0]
        mean = 0.1 * step + noise / n.clamp(min=1).sqrt()
        np.testing.assert_allclose(total, n * mean, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(square, n * mean**2 + (n - 1).clamp(min=0) * 0.6**2, rtol=1e-6, atol=1e-9)


def test_only_what_does_not_depend_on_signals_is_shared_by_replicas():
    assert common(EMA()) == {"lag", "noise", "weight"}
    assert common(Kalman(sigma=1.0, drift=0.1)) == {"lag", "noise", "information"}
    assert common(Bank()).isdisjoint({"expert", "loss"})
    assert common(Window()) == frozenset()


@dataclass(frozen=True)
class Rigid(EMA):
    """An EMA that needs its memory in full."""

    def update(self, state, stats):
        if state["lag"].shape != stats.total.shape or stats.n.shape != stats.total.shape:
            raise ValueError("needs its memory in full")
        return super().update(state, stats)


def test_a_tracker_that_cannot_share_gets_its_memory_in_full():
    regime = Regime(Linear(0.1), Rademacher())
    assert common(EMA(rate=0.3)) and not common(Rigid(rate=0.3))
    one, other = (simulate(t, regime, steps=50, replicas=40) for t in (EMA(rate=0.3), Rigid(rate=0.3)))
    np.testing.assert_allclose(one["filtering"], other["filtering"], rtol=1e-12, atol=1e-12)


@dataclass(frozen=True)
class Quiet(EMA):
    """Gives other numbers, without complaint, where its memory is not in full."""

    def update(self, state, stats):
        full = state["lag"].shape == stats.total.shape
        return super().update(state, stats if full else stats._replace(total=2 * stats.total))


def test_a_tracker_that_would_be_wrong_by_sharing_does_not_share():
    assert not common(Quiet(rate=0.3))


# ---------------------------------------------------------------------------------------- determinism and bookkeeping

ALL = dict(record=RECORDS, steps=40, burn=10)


def same(a, b):
    return torch.equal(a.powers, b.powers) and all(torch.equal(a[name], b[name]) for name in a.records | b.records)


@pytest.mark.parametrize("name", NAMED)
def test_a_result_is_a_function_of_the_seed_and_not_of_the_threads(name):
    one, again, two = (
        simulate(EMA(), NAMED[name], replicas=230, block=50, workers=w, seed=7, **ALL) for w in (1, 1, 2)
    )
    assert same(one, again) and same(one, two)
    assert not same(one, simulate(EMA(), NAMED[name], replicas=230, block=50, seed=8, **ALL))


def test_more_replicas_continue_where_fewer_ended():
    few, many = (simulate(EMA(), NAMED["student"], replicas=r, block=50, **ALL) for r in (100, 150))
    assert torch.equal(few["filtering"], many["filtering"][:100])
    assert not torch.equal(many["filtering"][:50], many["filtering"][50:100])  # blocks have streams of their own


@pytest.mark.parametrize("name", ["linear", "rademacher", "asynchronous", "sign-adversary", "closed-loop"])
def test_the_law_does_not_depend_on_the_block(name):
    regime = NAMED[name]
    whole, parts = (
        simulate(EMA(), regime, steps=100, replicas=4000, block=block, seed=1)["filtering"][:, 0]
        for block in (4000, 333)
    )
    assert scipy.stats.ks_2samp(whole, parts).pvalue > ALARM
    assert scipy.stats.ks_2samp(whole, 1.3 * parts + 0.1 * parts.std()).pvalue < ALARM


def test_the_global_random_state_is_neither_read_nor_moved():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = simulate(EMA(), NAMED["student"], steps=20, replicas=50)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert same(one, simulate(EMA(), NAMED["student"], steps=20, replicas=50))


def test_records_agree_with_each_other():
    errors = simulate(EMA(rate=0.3), NAMED["closed-loop"], replicas=70, block=30, **ALL)
    for name, letter in (("filtering", "e"), ("prediction", "p")):
        sample, found = errors[name], getattr(errors, name)
        np.testing.assert_allclose(found.mean, sample.mean(0), rtol=1e-9)
        np.testing.assert_allclose(found.square, (sample**2).mean(0), rtol=1e-9)
        np.testing.assert_allclose(found.mean_stderr, sample.std(0) / math.sqrt(70), rtol=1e-6)
        np.testing.assert_allclose(found.square_stderr, (sample**2).std(0) / math.sqrt(70), rtol=1e-6)
        for power, mark in ((1, ""), (2, "²")):
            curve = errors[f"curve {letter}{mark}"]
            assert curve.shape == (30, 4)
            np.testing.assert_allclose(curve[-1], (sample**power).mean(0), rtol=1e-9)
            np.testing.assert_allclose(curve.sum(0), errors[f"sum {letter}{mark}"].mean(0), rtol=1e-9)
    assert bool((errors["peak"] >= errors["filtering"].abs()).all())
    with pytest.raises(KeyError, match="'peak' was not recorded, only the moments"):
        simulate(EMA(), Regime(), steps=2, replicas=2, record=())["peak"]


def test_sums_begin_after_the_burn():
    regime = Regime(Linear(0.1), Told())
    runs = {t: simulate(EMA(rate=0.3), regime, steps=t, replicas=5)["filtering"] for t in (3, 4, 5, 6)}
    sums = simulate(EMA(rate=0.3), regime, steps=6, burn=3, replicas=5, record=RECORDS)
    np.testing.assert_allclose(sums["start"], runs[3], atol=1e-12)
    np.testing.assert_allclose(sums["sum e"], runs[4] + runs[5] + runs[6], atol=1e-12)
    np.testing.assert_allclose(sums["sum p"], runs[3] + runs[4] + runs[5] - 0.3, atol=1e-12)  # p = e - d
    np.testing.assert_allclose(sums["sum q e²"], runs[3] ** 2 + runs[4] ** 2 + runs[5] ** 2, atol=1e-12)  # q = 1
    np.testing.assert_allclose(sums["sum q"], 3)
    np.testing.assert_allclose(sums["peak"], torch.stack([runs[4], runs[5], runs[6]]).abs().amax(0))


@dataclass(frozen=True)
class Slow(Drift):
    """Takes a while at step 65."""

    def bound(self, level=0.0):
        return 0.0

    def step(self, state, past, random):
        if past.step == 65:
            time.sleep(0.4)
        return 0.0, state


class Watched:
    """Counts of what passes through an EMA."""

    def __init__(self):
        self.rows, self.alive, self.most, self.lock = set(), 0, 0, threading.Lock()


def test_memory_is_bounded_by_the_block_whatever_the_replicas_and_steps():
    probe = Watched()

    @dataclass(frozen=True)
    class Watching(EMA):
        def init(self, shape, device=None):
            with probe.lock:
                probe.rows.add(shape[0])
            return super().init(shape, device)

    regime = Regime(Linear(0.1), visits=Bernoulli(0.5))
    for replicas, steps in ((1000, 5), (1000, 50), (5000, 5)):
        errors = simulate(Watching(), regime, steps=steps, replicas=replicas, regions=3, block=100, record=())
        assert errors.records == {} and errors.powers.shape == (2, 4, 3)
    assert probe.rows == {100}
    assert math.prod(simulate(EMA(), regime, steps=2, replicas=9, record=("curve",))["curve e"].shape) == 2


def test_finished_blocks_wait_for_the_first_in_small_numbers():
    """Two per thread are under way or waiting, however many there are.

    Either of the first two blocks may find itself the first to start; where it is the second, the first may have been
    taken meanwhile: one more than the four.
    """
    started, seen = [], []

    @dataclass(frozen=True)
    class Watching(EMA):
        def init(self, shape, device=None):
            started.extend([shape] if shape == (7, 1) else [])
            return super().init(shape, device)

    @dataclass(frozen=True)
    class Waiting(Slow):
        def init(self, shape, device=None):
            return {"first": torch.full((1, 1), float(not started))}

        def step(self, state, past, random):
            if past.step == 2 and state["first"]:
                time.sleep(0.4)
                seen.append(len(started))
            return 0.0, state

    simulate(Watching(), Regime(Waiting()), steps=3, replicas=700, block=7, workers=2)
    assert len(started) == 100 and 1 <= seen[0] <= 5


def test_the_default_block_fits_a_cache_whatever_the_regions():
    sizes = []

    @dataclass(frozen=True)
    class Watching(EMA):
        def init(self, shape, device=None):
            sizes.append(math.prod(shape))
            return super().init(shape, device)

    for regions in (1, 100, 20_000):
        sizes.clear()
        simulate(Watching(), Regime(visits=Bernoulli(0.5)), steps=1, replicas=60_000 // regions + 1, regions=regions)
        assert max(sizes) <= max(24_576, regions) and min(sizes) > 0


def test_trackers_with_long_memories_get_smaller_blocks():
    sizes = []

    @dataclass(frozen=True)
    class Watching(Window):
        def init(self, shape, device=None):
            sizes.append(shape[0])
            return super().init(shape, device)

    for size in (2, 16, 100):
        sizes.append(0)
        simulate(Watching(size=size), Regime(visits=Bernoulli(0.5)), steps=1, replicas=30_000, record=())
    small, middle, large = (max(part) for part in split(sizes, 0))
    assert 24_576 >= small > middle > large >= 500 and large * 400 <= 300_000


def split(values, mark):
    """The runs of values between the marks."""
    parts = []
    for value in values:
        parts.append([]) if value == mark else parts[-1].append(value)
    return parts


def test_torch_s_threads_are_as_before_a_run_and_one_within():
    within = []

    @dataclass(frozen=True)
    class Watching(EMA):
        def estimate(self, state):
            within.append(torch.get_num_threads())
            return super().estimate(state)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        simulate(Watching(), Regime(visits=Bernoulli(0.5)), steps=2, replicas=9, block=3, workers=2)
        assert torch.get_num_threads() == 2 and set(within) == {1}
        with pytest.raises(ArithmeticError):
            simulate(EMA(), Regime(Failing()), steps=5, replicas=9)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# ------------------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("tracker", LINEAR, ids=repr)
def test_linear_drift_attains_the_certificate(tracker):
    """T1 with equality: normal with mean -D·lag and variance s²·noise, both read off the shipped tracker."""
    drift, sigma = 0.05, 0.7
    regime = Regime(Linear(drift), Gaussian(sigma))
    errors = simulate(tracker, regime, steps=60, replicas=60_000, record=("sample", "certificate"))
    lag, noise = float(errors["lag"][0, 0]), float(errors["noise"][0, 0])
    p_mean, p_variance = normal_law(errors["filtering"], -drift * lag, sigma**2 * noise)
    assert p_mean > ALARM and p_variance > ALARM
    assert normal_law(errors["filtering"], -drift * (lag + 1), sigma**2 * noise)[0] < ALARM
    assert normal_law(errors["filtering"], -drift * lag, sigma**2 * noise * 1.05)[1] < ALARM
    assert normal_law(errors["prediction"], -drift * (lag + 1), sigma**2 * noise)[0] > ALARM


@pytest.mark.parametrize("tracker", LINEAR, ids=repr)
@pytest.mark.parametrize("trend", [0.0, 0.05])
def test_a_random_walk_has_the_exact_mean_square(tracker, trend):
    """T2 with Rademacher steps, by the weights of the shipped tracker; 8 % more would be noticed."""
    regime = Regime(RandomWalk(0.3, trend), Gaussian(0.8))
    errors = simulate(tracker, regime, steps=60, replicas=20_000, record=())
    now, ahead = (exact(tracker, regime, 60).square for exact in (moments.exact, moments.exact_prediction))
    assert off(errors.filtering, square=now) < Z < off(errors.filtering, square=1.08 * now)
    assert off(errors.prediction, square=ahead) < Z < off(errors.prediction, square=1.08 * ahead)
    assert off(errors.prediction, square=now) > Z


def test_the_random_walk_of_an_ema_has_its_closed_form():
    a, b, tau, s = 0.8, 0.2, 0.3, 0.8
    found = moments.exact(EMA(rate=b), Regime(RandomWalk(tau), Gaussian(s)), 400)
    assert float(found.square) == pytest.approx((a**2 * tau**2 + b**2 * s**2) / (b * (2 - b)), rel=1e-9)


def test_a_reflected_walk_is_no_worse_than_a_free_one():
    free = moments.exact(EMA(rate=0.2), Regime(RandomWalk(0.3)), 200).square
    errors = simulate(EMA(rate=0.2), Regime(ReflectedWalk(0.3, width=1.0)), steps=200, replicas=40_000)
    assert float(errors.filtering.square + Z * errors.filtering.square_stderr) < float(free)


def test_a_sinusoid_has_its_closed_form():
    b, w, amplitude = 0.1, 0.2, 2.0
    a = 1 - b
    h = 2 * a * math.sin(w / 2) / math.sqrt(1 - 2 * a * math.cos(w) + a * a)
    biases = [float(moments.exact(EMA(rate=b), Regime(Sinusoid(amplitude, w)), t).mean) for t in range(250, 282)]
    t = np.arange(250, 282)  # the bias is a wave of the same frequency: fit its amplitude
    waves = np.stack([np.sin(w * t), np.cos(w * t)], axis=1)
    fit, *_ = np.linalg.lstsq(waves, np.array(biases), rcond=None)
    assert math.hypot(*fit) == pytest.approx(amplitude * h, rel=1e-9)


def test_a_decay_has_its_closed_form():
    b, r, size, steps = 0.1, 0.95, 3.0, 60
    a = 1 - b
    plain = size * (1 - r) * a * (a**steps - r**steps) / (a - r)  # of an EMA that starts at the truth
    # the shipped EMA divides the weights by 1 - a^t, which removes the start: m = (m_plain - a^t μ_0)/(1 - a^t)
    truth = size * r**steps
    expected = (truth + plain - a**steps * size) / (1 - a**steps) - truth
    found = moments.exact(EMA(rate=b), Regime(Decay(size, r), Gaussian(0.0)), steps)
    assert float(found.mean) == pytest.approx(expected, rel=1e-9)
    errors = simulate(EMA(rate=b), Regime(Decay(size, r), Gaussian(0.0)), steps=steps, replicas=3)
    np.testing.assert_allclose(errors["filtering"], float(found.mean), rtol=1e-9)


def test_a_jump_is_forgotten_geometrically():
    regime = Regime(NAMED["jump"].drift, Gaussian(0.0))
    for k in (1, 5, 20):
        found = simulate(EMA(rate=0.1), regime, steps=199 + k, replicas=2)["filtering"]
        np.testing.assert_allclose(found, -3 * 0.9**k, rtol=1e-6)


def test_changing_noise_has_its_variance():
    a, b, noise = 0.8, 0.2, Heteroscedastic(1.0, low=0.1, period=17.0)
    expected = b**2 * sum(a ** (2 * i) * noise.scale(200 - i) ** 2 for i in range(200))
    found = moments.exact(EMA(rate=b), Regime(noise=noise), 200)
    assert float(found.variance) == pytest.approx(expected, rel=1e-9)
    errors = simulate(EMA(rate=b), Regime(noise=noise), steps=200, replicas=40_000)
    assert min(normal_law(errors["filtering"], 0.0, expected)) > ALARM
    assert normal_law(errors["filtering"], 0.0, b / (2 - b))[1] < ALARM  # the largest noise throughout


@given(st.sampled_from(LINEAR), st.floats(-0.5, 0.5), st.floats(0.1, 2), st.integers(1, 40), st.sampled_from([1, 3]))
@settings(max_examples=60)
def test_exact_moments_are_the_certificate_s_on_a_line(tracker, slope, sigma, steps, batch):
    regime = Regime(Linear(slope), Gaussian(sigma), EveryStep(batch))
    state = tracker.init((1,))
    one = torch.ones(1, dtype=torch.float64)
    for _ in range(steps):
        state = tracker.update(state, RegionStats(batch * one, one, one, one))
    _, lag, noise = tracker.certificate(state)
    found = moments.exact(tracker, regime, steps)
    assert float(found.mean) == pytest.approx(-slope * float(lag), rel=1e-9, abs=1e-12)
    assert float(found.variance) == pytest.approx(sigma**2 * float(noise), rel=1e-9)
    assert float(moments.weights(tracker, steps, batch).sum()) == pytest.approx(1, rel=1e-12)


# ----------------------------------------------------------------------------------------------------- batches, gaps


def test_random_batches_shrink_the_noise_by_their_mean_reciprocal():
    """T11: F·E[1/n | n ≥ 1]."""
    b, batch, share = 0.3, 4, 0.3
    errors = simulate(EMA(rate=b), Regime(visits=Binomial(batch, share)), steps=60, replicas=40_000)
    law = scipy.stats.binom(batch, share)
    reciprocal = sum(law.pmf(n) / n for n in range(1, batch + 1)) / law.sf(0)
    assert off(errors.filtering, square=b / (2 - b) * reciprocal) < Z
    assert off(errors.filtering, square=b / (2 - b) * law.sf(0) / law.mean()) > Z  # 1/E n


def test_gaps_add_their_variance():
    """T10 for all times, with equality."""
    b, q, drift = 0.3, 0.4, 0.2
    a = 1 - b
    errors = simulate(EMA(rate=b), Regime(Linear(drift), visits=Bernoulli(q)), steps=150, replicas=40_000)
    mean = drift * (1 / (b * q) - 1)
    gaps = drift**2 * (1 - q) / (q**2 * b * (2 - b))
    assert off(errors.filtering, mean=-mean) < Z
    assert off(errors.filtering, square=mean**2 + gaps + b / (2 - b)) < Z
    assert off(errors.filtering, square=mean**2 + b / (2 - b)) > Z
    assert off(errors.prediction, square=(drift / (b * q)) ** 2 + gaps + b / (2 - b)) < Z
    assert off(errors.filtering, mean=-drift * a / (b * q)) > Z  # just after a visit only


# ------------------------------------------------------------------------------------------------------- fast paths


@pytest.mark.parametrize(
    ("tracker", "regime"),
    [
        (EMA(rate=0.2), Regime(Linear(0.1), Gaussian(0.5))),
        (Window(size=5), Regime(Sinusoid(1.0, 0.3), Gaussian(0.5), EveryStep(batch=3))),
        (Discounted(discount=0.8), Regime(RandomWalk(0.2, gaussian=True), Heteroscedastic(period=7.0))),
        (CertificateGain(sigma=1.0, drift=0.1), Regime(Decay(3.0, 0.9))),
    ],
    ids=str,
)
def test_the_synchronous_exact_sample_is_that_of_the_loop(tracker, regime):
    loop = simulate(tracker, regime, steps=50, replicas=40_000, seed=1)["filtering"][:, 0]
    fast = exact_samples.synchronous(tracker, regime, steps=50, replicas=40_000, seed=2)
    law = moments.exact(tracker, regime, 50)
    for sample in (loop, fast):
        assert min(normal_law(sample, float(law.mean), float(law.variance))) > ALARM
    assert scipy.stats.ks_2samp(loop, fast).pvalue > ALARM
    assert scipy.stats.ks_2samp(loop, fast + 0.1 * fast.std()).pvalue < ALARM
    assert scipy.stats.ks_2samp(loop, fast.mean() + 1.1 * (fast - fast.mean())).pvalue < ALARM


@pytest.mark.parametrize(("b", "q", "drift"), [(0.3, 0.4, 0.3), (0.5, 0.1, 0.2), (0.2, 1.0, 0.1), (1.0, 0.3, 0.5)])
def test_the_asynchronous_exact_sample_is_that_of_the_loop(b, q, drift):
    fast = exact_samples.asynchronous(b, drift, 1.0, q, replicas=40_000, seed=3)
    mean = drift * (1 / (b * q) - 1)
    variance = drift**2 * (1 - q) / (q**2 * b * (2 - b)) + b / (2 - b)
    n, centred = len(fast), fast + mean
    assert abs(float(centred.mean())) < Z * math.sqrt(variance / n)
    spread = float((centred**2).std()) / math.sqrt(n)
    assert abs(float((centred**2).mean()) - variance) < Z * spread
    steps = math.ceil(25 / (b * q))  # the start is forgotten to 1e-10
    loop = simulate(EMA(rate=b), Regime(Linear(drift), visits=Bernoulli(q)), steps=steps, replicas=20_000)
    assert scipy.stats.ks_2samp(loop["filtering"][:, 0], fast).pvalue > ALARM
    wrong = exact_samples.asynchronous(b, 1.15 * drift, 1.0, q, replicas=40_000, seed=3)
    assert scipy.stats.ks_2samp(loop["filtering"][:, 0], wrong).pvalue < ALARM


def test_bits_attain_the_same_mean_square_as_normal_noise():
    reference = moments.exact(EMA(rate=0.2), Regime(Linear(0.1)), 80).square
    for noise in (Gaussian(), Rademacher(), Sparse(chance=0.2)):
        errors = simulate(EMA(rate=0.2), Regime(Linear(0.1), noise), steps=80, replicas=60_000, record=())
        assert off(errors.filtering, square=reference) < Z
        assert off(errors.filtering, square=1.05 * reference) > Z


def test_fast_paths_refuse_what_they_cannot_draw():
    for regime in (Regime(noise=Rademacher()), Regime(RandomWalk(0.1)), Regime(visits=Bernoulli(0.5))):
        with pytest.raises(ValueError, match="regime must have"):
            exact_samples.synchronous(EMA(), regime, steps=5, replicas=5)
    with pytest.raises(ValueError, match="regime must have independent moves"):
        moments.exact(EMA(), NAMED["sign-adversary"], 5)
    with pytest.raises(ValueError, match=r"must be linear \(gains independent of the signal\); Bank"):
        moments.weights(Bank(), 5)


# -------------------------------------------------------------------------------------------------- adaptive regimes


def fixed_point(b, drift, s):
    """T3-A."""
    a, kap = 1 - b, b * (2 - b)
    return (a**2 * drift + math.sqrt(a**2 * drift**2 + kap * b**2 * s**2)) / kap


@pytest.mark.parametrize(("b", "drift"), [(0.1, 0.05), (0.3, 0.2), (0.6, 1.0)])
def test_the_two_point_adversary_attains_the_adaptive_bound_surely(b, drift):
    regime = Regime(SignAdversary(drift), TwoPoint(rate=b))
    steps = math.ceil(20 / b)
    errors = simulate(EMA(rate=b), regime, steps=steps, replicas=500, record=("sample", "curve"))
    c = fixed_point(b, drift, 1.0)
    np.testing.assert_allclose(errors["filtering"].abs(), c, rtol=1e-8)
    np.testing.assert_allclose(errors["prediction"].abs(), c + drift, rtol=1e-8)
    oblivious = (drift * (1 - b) / b) ** 2 + b / (2 - b)
    assert float(errors.filtering.square) > 1.02 * oblivious  # the bound for oblivious drift is broken
    size = 1.0  # on the way, with gains b/(1 - a^t): v² = (1-r)²(v+D)² + r²
    for step in range(2, steps + 1):
        gain = b / (1 - (1 - b) ** step)
        size = math.sqrt(((1 - gain) * (size + drift)) ** 2 + gain**2)
        assert float(errors["curve e²"][step - 1]) == pytest.approx(size**2, rel=1e-8)


def test_the_sign_adversary_breaks_the_oblivious_bound_only():
    b, drift = 0.2, 0.1
    errors = simulate(EMA(rate=b), Regime(SignAdversary(drift)), steps=150, replicas=60_000)
    low = float(errors.filtering.square - Z * errors.filtering.square_stderr)
    high = float(errors.filtering.square + Z * errors.filtering.square_stderr)
    assert low > (drift * (1 - b) / b) ** 2 + b / (2 - b)
    assert high < fixed_point(b, drift, 1.0) ** 2


def test_selective_visits_raise_the_floor_but_not_by_more_than_their_probability():
    """T12: between 2 F and F/q with rare shocks."""
    b, q = 0.3, 0.2
    floor = b / (2 - b)
    regime = Regime(noise=Sparse(chance=0.005), visits=Selective(math.sqrt(floor), probability=q))
    errors = simulate(EMA(rate=b), regime, steps=600, burn=300, replicas=20_000, record=("sums",))
    mean = errors["sum e²"].mean() / 300
    error = errors["sum e²"].std() / 300 / math.sqrt(20_000)
    assert float(mean - Z * error) > 2 * floor
    assert float(mean - Z * error) < floor / q


@pytest.mark.parametrize("noise", [Gaussian(0.7), Rademacher(0.7)], ids=repr)
def test_visit_weighted_errors_are_those_of_steady_visits_whatever_the_selection(noise):
    """T13: κ Σ q e² = b² s² Σ q + e_0² - e_T² and b Σ q e = e_0 - e_T on average."""
    b, s, q = 0.3, 0.7, 0.3
    kap = b * (2 - b)
    regime = Regime(noise=noise, visits=Selective(0.2, probability=q))
    errors = simulate(EMA(rate=b), regime, steps=400, burn=200, replicas=20_000, record=("sample", "weighted"))
    start, end = errors["start"], errors["filtering"]

    def stray(balance):
        return abs(float(balance.mean() / balance.std())) * math.sqrt(balance.numel())

    gained = b**2 * s**2 * errors["sum q"] + start**2 - end**2
    assert stray(kap * errors["sum q e²"] - gained) < Z
    assert stray(kap * errors["sum q e²"] - 1.02 * gained) > Z
    assert stray(b * errors["sum q e"] - (start - end)) < Z
    assert stray(kap * errors["sum q e²"] - b**2 * s**2 * 200 * 0.5) > Z


def test_effort_coupled_drift_stays_below_its_bound_whatever_the_selection():
    """T13': the visit-weighted mean square is below c*², with no visit probability in it."""
    b, d, q = 0.3, 0.1, 0.05
    kap = b * (2 - b)
    c = (d + math.sqrt(d**2 + kap * (b**2 + d**2))) / kap
    regime = Regime(EffortCoupled(d), visits=Selective(0.3, probability=q))
    errors = simulate(EMA(rate=b), regime, steps=1000, burn=500, replicas=2000, record=("weighted",))
    assert float(errors["sum q e²"].sum() / errors["sum q"].sum()) < c**2


def test_a_closed_loop_trains_what_it_tracks():
    """The truth falls with effort, so regions end closer together, and the visit-weighted error obeys T13'."""
    b, c, s, levels = 0.2, 0.02, 0.2, (1.0, 2.0, 4.0, 8.0)
    kap, floor = b * (2 - b), b / (2 - b) * s**2
    regime = Regime(ClosedLoop(c), Gaussian(s), Allocated(batch=2, floor=0.1), level=levels)
    errors = simulate(EMA(rate=b), regime, steps=400, burn=100, replicas=1000, record=("weighted",))
    for k, level in enumerate(levels):
        effort = float(errors["sum q"][:, k].mean())
        weighted = float(errors["sum q e²"][:, k].mean()) / effort
        moved = c * level**2 / (2 - c)
        start = float((errors["start"][:, k] ** 2).mean())
        bound = (math.sqrt(moved) + math.sqrt(moved + kap * (start + moved + b**2 * s**2 * effort))) / kap
        assert floor / 2 < weighted <= bound**2 / effort
    assert bool((errors["sum q"][:, 0] < errors["sum q"][:, 3]).double().mean() > 0.9)  # effort follows the discrepancy


def test_heavy_tails_break_normal_radii_but_not_chebyshev():
    b = 0.3
    errors = simulate(EMA(rate=b), Regime(noise=StudentT(freedom=3.0)), steps=60, replicas=100_000)
    floor, beyond = b / (2 - b), errors["filtering"][:, 0].abs()
    radius = math.sqrt(2 * floor * math.log(2 / 1e-4))
    assert scipy.stats.binomtest(int((beyond > radius).sum()), 100_000, 1e-4, alternative="greater").pvalue < ALARM
    for delta in (0.3, 0.05, 0.01):
        assert float((beyond > math.sqrt(floor / delta)).double().mean()) < delta
    capped = errors["filtering"].square().clamp(max=25)
    assert float(capped.mean() - Z * capped.std() / math.sqrt(100_000)) < floor


# ------------------------------------------------------------------------------------------------ progress and refusal


def test_progress_is_reported_in_the_calling_thread_and_ends_at_the_total():
    calls = []

    def progress(done, total):
        calls.append((done, total, threading.current_thread() is threading.main_thread()))

    simulate(EMA(), Regime(), steps=30, replicas=50, regions=2, block=7, progress=progress)
    done, totals, here = zip(*calls, strict=True)
    assert list(done) == sorted(done) and done[-1] == 30 * 50 * 2
    assert set(totals) == {30 * 50 * 2} and all(here)


def test_a_long_block_tells_its_progress_on_the_way():
    calls = []
    simulate(EMA(), Regime(Slow()), steps=100, replicas=10, progress=lambda done, total: calls.append(done))
    assert 640 in calls and calls[-1] == 1000


@dataclass(frozen=True)
class Failing(Drift):
    """Fails at step 3."""

    def bound(self, level=0.0):
        return 0.0

    def step(self, state, past, random):
        if past.step == 3:
            raise ArithmeticError("no third step")
        return 0.0, state


def test_a_failure_in_a_thread_is_raised_and_ends_the_others():
    with pytest.raises(ArithmeticError, match="no third step"):
        simulate(EMA(), Regime(Failing()), steps=10, replicas=100, block=5)

    made = []

    @dataclass(frozen=True)
    class Counting(Drift):
        def bound(self, level=0.0):
            return 0.0

        def step(self, state, past, random):
            made.append(past.step)
            return 0.0, state

    def impatient(done, total):
        raise TimeoutError("enough")

    with pytest.raises(TimeoutError, match="enough"):
        simulate(EMA(), Regime(Counting()), steps=50_000, replicas=2, block=1, progress=impatient)
    assert 0 < len(made) < 50_000


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (dict(steps=0), "steps must be a whole number of at least 1, got 0"),
        (dict(replicas=2.5), "replicas must be a whole number of at least 1, got 2.5"),
        (dict(burn=5), "burn must be below steps=5, got 5"),
        (dict(record=("everything",)), "record must be 'sample' or 'sums' or .* got 'everything'"),
        (dict(block=0), "block must be a whole number of at least 1, got 0"),
        (dict(workers=0), "workers must be a whole number of at least 1, got 0"),
        (dict(regions=0), "regions must be a whole number of at least 1, got 0"),
        (dict(regime=Regime(level=(1.0, 2.0)), regions=3), "regions must be 2, one per level, got 3"),
        (dict(tracker=Progress()), "tracker must estimate the mean, got one of the slope"),
        (dict(tracker=Bank(), record=("certificate",)), "tracker has no certificate to record: Bank"),
    ],
)
def test_bad_settings_are_named(changed, sentence):
    settings_ = dict(tracker=EMA(), regime=Regime(), steps=5, replicas=5) | changed
    with pytest.raises(ValueError, match=sentence):
        simulate(settings_.pop("tracker"), settings_.pop("regime"), **settings_)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMED)
def test_a_device_draws_from_the_same_law(name):
    here, there = (
        simulate(EMA(), NAMED[name], steps=150, replicas=5000, device=device)["filtering"][:, 0].cpu()
        for device in ("cpu", "cuda")
    )
    assert scipy.stats.ks_2samp(here, there).pvalue > ALARM


def test_a_tracker_without_memory_is_simulated_too():
    @dataclass(frozen=True)
    class Guess(Constant):
        def init(self, shape, device=None):
            return {}

        def update(self, state, stats):
            return state

        def estimate(self, state):
            return Estimate(torch.ones(5, 1, dtype=torch.float64), torch.zeros(5, 1, dtype=torch.float64))

    found = simulate(Guess(), Regime(Linear(0.5)), steps=4, replicas=5)
    assert float(found.filtering.mean) == -1.0
