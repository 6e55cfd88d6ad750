"""Every regime keeps what it promises: bounds, means, variances, visit rates; and the check notices which does not.

What is counted is judged at false alarm 1e-6 a test, with fixed seeds.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

import aria
from aria.allocators import Proportional
from aria.interfaces import Estimate
from theory import regimes
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
    Jump,
    Jumps,
    Linear,
    Noise,
    Past,
    Rademacher,
    Random,
    RandomWalk,
    ReflectedWalk,
    Regime,
    Seen,
    Selective,
    SignAdversary,
    Sinusoid,
    Sparse,
    Stationary,
    StudentT,
    TwoPoint,
    Visits,
    check_process,
)

ALARM = 1e-6
KINDS = (Drift, Noise, Visits)


def concrete(cls):
    return inspect.isclass(cls) and issubclass(cls, KINDS) and not inspect.isabstract(cls)


CLASSES = [cls for name in regimes.__all__ if concrete(cls := getattr(regimes, name))]
EXAMPLES = [example for cls in CLASSES for example in cls.examples()]


def past(step=1, truth=0.0, value=None, visit=None, shape=(1, 1)):
    estimate = (
        None
        if value is None
        else Estimate(torch.as_tensor(value, dtype=torch.float64).expand(shape), torch.zeros(shape))
    )
    visit = None if visit is None else torch.as_tensor(visit, dtype=torch.float64).expand(shape)
    return Past(step, torch.full((1, shape[1]), float(truth), dtype=torch.float64), estimate, visit)


# ------------------------------------------------------------------------------------------------------ conformance


def test_every_process_of_the_package_is_exported():
    found, queue = set(), list(KINDS)
    while queue:
        for cls in queue.pop().__subclasses__():
            queue.append(cls)
            if cls.__module__.startswith("theory.regimes") and not inspect.isabstract(cls):
                found.add(cls)
    assert found == set(CLASSES)


@pytest.mark.parametrize("process", EXAMPLES, ids=repr)
def test_conforms(process):
    check_process(process)


@pytest.mark.parametrize("name", NAMED)
def test_named_regimes_conform(name):
    regime = NAMED[name]
    for part in (regime.drift, regime.noise):
        check_process(part)
    if not isinstance(regime.visits, Allocated):
        check_process(regime.visits)


@dataclass(frozen=True)
class BrokenDrift(RandomWalk):
    """A random walk with one defect at a time."""

    defect: str = ""

    @property
    def variance(self):
        return super().variance * (1.1 if self.defect == "variance" else 1)

    def step(self, state, past, random):
        move, after = super().step(state, past, random)
        if self.defect == "bound":
            move = move * (1 + 1e-9) ** past.step * 1.0001
        if self.defect == "mean":
            move = torch.where(random.uniform() < 0.05, self.size, move)
        if self.defect == "peeks":
            move = move * past.error.sign()
        if self.defect == "in place":
            state["word"].add_(1)
        if self.defect == "past in place":
            past.truth.add_(1)
        if self.defect == "global random":
            move = move * torch.rand(()).sub(0.5).sign()
        if self.defect == "flat":
            move = move[:-1]
        if self.defect == "nan":
            move = move * torch.nan
        if self.defect == "names":
            after = after | {"more": move}
        return move, after


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [
        ("bound", "more than its bound"),
        ("mean", "does not move by mean_move"),
        ("variance", "does not vary by its variance"),
        ("in place", "changed the given state in place"),
        ("past in place", "changed the given past in place"),
        ("global random", "two results"),
        ("flat", "does not broadcast"),
        ("nan", "not finite"),
        ("names", "changed the names in its state"),
    ],
)
def test_the_check_names_a_drift_s_defect(defect, sentence):
    check_process(BrokenDrift(0.1))
    with pytest.raises(AssertionError, match=sentence):
        check_process(BrokenDrift(0.1, defect=defect))


def test_a_process_that_peeks_at_estimates_must_say_so():
    with pytest.raises(ValueError, match="adaptive = True"):
        check_process(BrokenDrift(0.1, defect="peeks"))


@dataclass(frozen=True)
class BrokenNoise(Gaussian):
    """Normal noise with one defect at a time."""

    adaptive = True
    defect: str = ""

    def step(self, state, past, random):
        noise, state = super().step(state, past, random)
        far = (past.error.abs() > 2).double()
        if self.defect == "follows the error":
            noise = noise + 0.05 * past.error.sign()
        if self.defect == "grows":
            noise = noise * 1.03
        if self.defect == "leaps":
            noise = noise * (1 + 0.05 * far)
        if self.defect == "beyond":
            noise = noise.clamp(-1, 1) + 0.5
        return noise, state

    @property
    def reach(self):
        return 1.0 if self.defect == "beyond" else math.inf

    @property
    def sub_gaussian(self):
        return 0.9 if self.defect == "light" else self.sigma


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [
        ("follows the error", "mean 0 given the past"),
        ("grows", "varies more"),
        ("leaps", "varies more"),
        ("beyond", "more than its reach"),
        ("light", "lighter tails"),
    ],
)
def test_the_check_names_a_noise_s_defect(defect, sentence):
    check_process(BrokenNoise())
    with pytest.raises(AssertionError, match=sentence):
        check_process(BrokenNoise(defect=defect))


@dataclass(frozen=True)
class BrokenVisits(Bernoulli):
    """Visits by chance with one defect at a time."""

    defect: str = ""

    def step(self, state, past, random):
        (n, visit), state = super().step(state, past, random)
        if self.defect == "more often":
            n = torch.maximum(n, (random.uniform() < 0.02).double())
        if self.defect == "below least":
            visit = visit - 0.1
        if self.defect == "halves":
            n = n / 2
        if self.defect == "batches":
            n = n * 2
        return Seen(n, visit), state


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [
        ("more often", "as often as its probability"),
        ("below least", r"outside \[least, 1\]"),
        ("halves", "whole numbers"),
        ("batches", "not declared batched"),
    ],
)
def test_the_check_names_a_visit_process_s_defect(defect, sentence):
    check_process(BrokenVisits(0.3))
    with pytest.raises(AssertionError, match=sentence):
        check_process(BrokenVisits(0.3, defect=defect))


def test_mutable_processes_are_refused():
    class Mutable(Bernoulli):
        pass

    class Plain(Drift):
        def step(self, state, past, random):
            return 0.0, state

        def bound(self, level=0.0):
            return 0.0

    check_process(Mutable(0.5))
    with pytest.raises(AssertionError, match="frozen dataclass"):
        check_process(Plain())


# ------------------------------------------------------------------------------------------------------------ paths


def path(drift, steps):
    """The truth after 0 … steps steps, from level 0."""
    moves = [drift.step({}, past(step), None)[0] for step in range(1, steps + 1)]
    return drift.offset + np.concatenate([[0.0], np.cumsum(moves)])


@given(st.floats(0.1, 10), st.floats(0.001, math.pi))
def test_a_sinusoid_is_a_sine_and_stays_below_its_bound(amplitude, frequency):
    wave = Sinusoid(amplitude, frequency)
    expected = amplitude * np.sin(frequency * np.arange(41))
    np.testing.assert_allclose(path(wave, 40), expected, atol=1e-12 * amplitude)
    assert np.abs(np.diff(expected)).max() <= wave.bound() * (1 + 1e-12)


def test_the_bound_of_a_sinusoid_is_reached():
    assert np.abs(np.diff(path(Sinusoid(1.0, math.pi), 4))).max() == pytest.approx(0, abs=1e-12)  # ω = π samples zeros
    assert np.abs(np.diff(path(Sinusoid(2.0, 0.01), 700))).max() == pytest.approx(Sinusoid(2.0, 0.01).bound(), rel=1e-4)


@given(st.floats(0.1, 10), st.floats(0.01, 0.99))
def test_a_decay_is_geometric(size, ratio):
    np.testing.assert_allclose(path(Decay(size, ratio), 30), size * ratio ** np.arange(31), atol=1e-12 * size)


def test_a_jump_happens_once():
    np.testing.assert_array_equal(path(Jump(2.0, at=3), 5), [0, 0, 0, 2, 2, 2])
    np.testing.assert_array_equal(path(Stationary(), 3), 0)
    np.testing.assert_allclose(path(Linear(-0.5), 3), [0, -0.5, -1, -1.5])


def test_a_reflected_walk_stays_between_its_walls_and_uses_all_of_the_room():
    walk, random, place = ReflectedWalk(0.3, width=1.0), Random(0, (500, 2)), torch.zeros(1, 2, dtype=torch.float64)
    state, largest = walk.init((500, 2)), 0.0
    for step in range(1, 200):
        move, state = walk.step(state, past(step, shape=(500, 2)), random)
        before, place = place, place + move
        whole = (move.abs() - 0.3).abs() < 1e-9
        mirrored = (place.abs() + before.abs() + 0.3 - 2).abs() < 1e-9  # as far inside the wall as it was headed behind
        assert bool((whole | mirrored & (place * before > 0)).all())
        largest = max(largest, float(place.abs().max()))
        assert float(place.abs().max()) <= 1 + 1e-12
    assert largest > 0.9


def test_effort_moves_the_truth():
    visit = torch.tensor([[0.25, 1.0]])
    loop, _ = ClosedLoop(0.1).step({}, past(truth=2.0, visit=visit, shape=(1, 2)), None)
    np.testing.assert_allclose(loop, [[-0.05, -0.2]])
    coupled, _ = EffortCoupled(0.1).step({}, past(truth=2.0, value=[[1.0, 3.0]], visit=visit, shape=(1, 2)), None)
    np.testing.assert_allclose(coupled, [[0.025, -0.1]])  # away from the estimate, by effort


def test_the_sign_adversary_runs_from_the_estimate():
    move, _ = SignAdversary(0.1).step({}, past(truth=2.0, value=[[1.0, 3.0]], shape=(1, 2)), None)
    np.testing.assert_allclose(move, [[0.1, -0.1]])


# ------------------------------------------------------------------------------------------------------------ noise


class Fixed:
    """Randomness whose every uniform number is ``u``."""

    def __init__(self, u):
        self.u = u

    def uniform(self):
        return torch.full((1, 1), self.u, dtype=torch.float64)


@given(st.floats(-20, 20), st.floats(0.01, 1), st.floats(0.1, 3), st.integers(1, 200))
def test_two_point_noise_is_honest_and_keeps_the_error_as_large_as_it_can(error, rate, sigma, step):
    """Both points and their probability: mean 0, variance sigma², and one size of the new error."""
    noise, seen = TwoPoint(sigma, rate), past(step, value=error)
    plus, minus = (float(noise.step({}, seen, Fixed(u))[0]) for u in (0.0, 1 - 1e-16))
    low, high = 0.0, 1.0  # the probability of plus, by bisection
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float(noise.step({}, seen, Fixed(middle))[0]) == plus else (low, middle)
    chance = high
    scale = max(abs(plus), abs(minus))
    assert chance * plus + (1 - chance) * minus == pytest.approx(0, abs=1e-9 * scale)
    assert chance * plus**2 + (1 - chance) * minus**2 == pytest.approx(sigma**2, abs=1e-9 * scale**2)
    gain = rate / (1 - (1 - rate) ** step)
    sizes = [abs((1 - gain) * error + gain * point) for point in (plus, minus)]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-9)
    assert sizes[0] ** 2 == pytest.approx(((1 - gain) * error) ** 2 + (gain * sigma) ** 2, rel=1e-9)


def draw(noise, count, step=1):
    random = Random(3, (count, 1))
    return noise.step(noise.init((count, 1)), past(step, value=0.0, shape=(count, 1)), random)[0][:, 0].numpy()


@pytest.mark.parametrize(
    ("noise", "step", "law"),
    [
        (Gaussian(0.5), 1, scipy.stats.norm(scale=0.5)),
        (StudentT(2.0, freedom=3.0), 1, scipy.stats.t(3, scale=2 / math.sqrt(3))),
        (StudentT(1.0, freedom=8.0), 1, scipy.stats.t(8, scale=math.sqrt(6 / 8))),
        (Heteroscedastic(1.0, low=0.2, period=10), 5, scipy.stats.norm(scale=1.0)),
        (Heteroscedastic(1.0, low=0.2, period=10), 10, scipy.stats.norm(scale=0.2)),
    ],
)
def test_noise_has_the_law_it_names(noise, step, law):
    drawn = draw(noise, 100_000, step)
    assert scipy.stats.kstest(drawn, law.cdf).pvalue > ALARM
    assert scipy.stats.kstest(1.06 * drawn, law.cdf).pvalue < ALARM  # a deviation 6 % off would be seen


def test_sparse_noise_and_jumps_are_rare():
    for values, size, chance in (
        (draw(Sparse(1.0, chance=0.04), 100_000), 5.0, 0.04),
        (Jumps(5.0, chance=0.04).step({}, past(), Random(1, (100_000, 1)))[0][:, 0].numpy(), 5.0, 0.04),
    ):
        assert set(values) == {-size, 0.0, size}
        for sign in (-1, 1):
            hits = int((values == sign * size).sum())
            assert scipy.stats.binomtest(hits, len(values), chance / 2).pvalue > ALARM
            assert scipy.stats.binomtest(hits, len(values), chance / 2 * 1.15).pvalue < ALARM


def test_random_signs_are_fair_independent_and_use_every_bit():
    noise, random, rows = Rademacher(1.0), Random(5, (2000, 1)), []
    state = noise.init((2000, 1))
    for step in range(1, 161):
        drawn, state = noise.step(state, past(step), random)
        rows.append(drawn[:, 0].numpy())
    signs = np.array(rows)  # (T, R)
    assert set(signs.flat) == {-1.0, 1.0}
    # 160 sums and 10 + 1 correlations, each at false alarm 1e-8
    limit = scipy.stats.norm.isf(1e-8 / 2)
    assert np.abs(signs.sum(1)).max() / math.sqrt(2000) < limit
    for lag in (*range(1, 10), 63, 64, 65):
        product = signs[lag:] * signs[:-lag]
        assert abs(product.sum()) / math.sqrt(product.size) < limit
    product = signs[:, 1:] * signs[:, :-1]
    assert abs(product.sum()) / math.sqrt(product.size) < limit


@pytest.mark.parametrize("on_host", [True, False])
def test_both_sources_of_randomness_have_the_same_laws(on_host):
    """NumPy's, which runs on a CPU, and torch's, which runs on an accelerator."""
    random = Random(4, (50_000, 1))
    if not on_host:
        random._host, random._device = None, torch.Generator().manual_seed(4)
    for drawn, law in (
        (random.normal(), scipy.stats.norm()),
        (random.uniform(), scipy.stats.uniform()),
        (random.uniform(3), scipy.stats.uniform()),
        (random.exponential(), scipy.stats.expon()),
        (random.student(3.0), scipy.stats.t(3)),
    ):
        assert drawn.dtype == torch.float64 and len(drawn) == 50_000
        assert scipy.stats.kstest(drawn.flatten().numpy(), law.cdf).pvalue > ALARM
        assert scipy.stats.kstest(drawn.flatten().numpy() + 0.05, law.cdf).pvalue < ALARM
    counts = np.bincount(random.binomial(5, 0.3)[:, 0].long().numpy(), minlength=6)
    assert scipy.stats.chisquare(counts, 50_000 * scipy.stats.binom(5, 0.3).pmf(range(6))).pvalue > ALARM
    words = random.words()[:, 0]
    for bit in range(64):
        ones = int((words >> bit & 1).sum())
        assert scipy.stats.binomtest(ones, 50_000, 0.5).pvalue > ALARM / 64


# ----------------------------------------------------------------------------------------------------------- visits


def visited(visits, count, **given):
    random, shape = Random(2, (count, 1)), (count, 1)
    return visits.step(visits.init(shape), past(shape=shape, **given), random)[0]


def test_binomial_batches_have_their_law():
    n = visited(Binomial(6, share=0.3), 50_000).n[:, 0].numpy()
    seen = np.bincount(n.astype(int), minlength=7)
    law = scipy.stats.binom(6, 0.3).pmf(range(7))
    assert scipy.stats.chisquare(seen, 50_000 * law).pvalue > ALARM
    assert scipy.stats.chisquare(seen, 50_000 * scipy.stats.binom(6, 0.32).pmf(range(7))).pvalue < ALARM


def test_selective_visits_leave_large_errors_alone():
    visits = Selective(0.5, probability=0.1)
    shape = (1, 4)
    seen, _ = visits.step({}, past(value=[[0.0, 0.49, -0.51, 3.0]], shape=shape), Random(0, shape))
    np.testing.assert_allclose(seen.visit, [[1, 1, 0.1, 0.1]])
    assert seen.n[0, 0] == seen.n[0, 1] == 1


def allocate(visits, value, replicas=500):
    shape = (replicas, len(value))
    return visits.step(visits.init(shape), past(value=value, shape=shape), Random(1, shape))[0]


@pytest.mark.parametrize("stratified", [True, False])
def test_allocated_visits_are_a_batch_of_draws(stratified):
    n, visit = allocate(Allocated(batch=7, stratified=stratified), [1.0, 0.0, 3.0])
    assert bool((n.sum(-1) == 7).all()) and bool((n == n.round()).all())
    share = torch.tensor([0.2 / 3 + 0.8 / 4, 0.2 / 3, 0.2 / 3 + 0.8 * 3 / 4], dtype=torch.float64)
    if stratified:
        assert bool(((n - 7 * share).abs() < 1).all())
        np.testing.assert_allclose(visit[0], (7 * share).clamp(max=1))
    else:
        np.testing.assert_allclose(visit[0], 1 - (1 - share) ** 7)
        assert bool(((n - 7 * share).abs() > 1).any())
    # 3 means of 500 counts of variance below 7/4
    assert float((n.mean(0) - 7 * share).abs().max()) < scipy.stats.norm.isf(ALARM / 6) * math.sqrt(7 / 4 / 500)


def test_allocated_visits_are_those_of_the_sampler():
    mass = (0.5, 0.2, 0.3)
    partition = aria.partitioners.Labels("k").fit(aria.Pool(columns={"k": [0, 1, 2]}, weight=torch.tensor(mass)))
    sampler = aria.Sampler(partition, "ema", Proportional(power=2.0), floor=0.3)
    sampler.observe(torch.arange(3), torch.tensor([1.0, 2.0, 3.0]))
    visits = Allocated(Proportional(power=2.0), batch=1, floor=0.3, mass=mass)
    np.testing.assert_allclose(allocate(visits, [1.0, 2.0, 3.0]).visit[0], sampler.probs(), rtol=1e-6)


def test_allocated_visits_never_fall_below_their_least():
    mass = (0.5, 0.2, 0.3)
    for stratified in (True, False):
        visits = Allocated(Proportional(power=8.0), batch=3, floor=0.3, mass=mass, stratified=stratified)
        lowest = allocate(visits, [9.0, 1e-9, 1.0]).visit.min()
        assert visits.least <= lowest < 1.01 * visits.least


# ---------------------------------------------------------------------------------------------------------- regimes


def test_a_regime_says_what_it_satisfies():
    regime = Regime(ClosedLoop(0.1), Sparse(0.5), Selective(1.0, 0.2), level=(1.0, -4.0))
    assert (regime.bound, regime.sigma, regime.least, regime.adaptive, regime.regions) == (0.4, 0.5, 0.2, True, 2)
    assert Regime().bound == 0 and not Regime().adaptive and Regime().regions is None
    assert Regime(RandomWalk(0.1, gaussian=True)).bound == math.inf
    np.testing.assert_array_equal(Regime(Decay(2.0, 0.5), level=1.0).start(3), [[3, 3, 3]])


@pytest.mark.parametrize("name", NAMED)
def test_named_regimes_are_marked_adaptive_where_they_are(name):
    adaptive = {"sign-adversary", "two-point-adversary", "selective", "effort-coupled", "closed-loop"}
    assert NAMED[name].adaptive == (name in adaptive)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Linear(math.nan), "slope must be finite, got nan"),
        (lambda: Sinusoid(1.0, 4.0), r"frequency must lie in \(0, π\]"),
        (lambda: Sinusoid(-1.0, 0.1), "amplitude must be positive"),
        (lambda: Decay(1.0, 1.0), r"ratio must lie in \(0, 1\), got 1.0"),
        (lambda: Jump(1.0, at=0), "at must be a whole number of at least 1, got 0"),
        (lambda: Jumps(1.0, chance=0.0), r"chance must lie in \(0, 1\], got 0.0"),
        (lambda: ReflectedWalk(2.0, width=1.0), "size must be at most width=1.0, got 2.0"),
        (lambda: ClosedLoop(1.5), r"rate must lie in \(0, 1\], got 1.5"),
        (lambda: StudentT(freedom=2.0), "freedom must be finite and above 2"),
        (lambda: Heteroscedastic(0.1, low=0.2), "low must be at most sigma=0.1, got 0.2"),
        (lambda: TwoPoint(rate=0.0), r"rate must lie in \(0, 1\], got 0.0"),
        (lambda: EveryStep(batch=0), "batch must be a whole number of at least 1, got 0"),
        (lambda: Bernoulli(0.0), r"probability must lie in \(0, 1\], got 0.0"),
        (lambda: Binomial(2.0, share=0.1), "batch must be a whole number of at least 1, got 2.0"),
        (lambda: Selective(0.0, 0.1), "inside must be positive and finite, got 0.0"),
        (lambda: Allocated(allocator="ucb"), "allocator must be an allocator, got 'ucb'"),
        (lambda: Allocated(mass=(0.0, -1.0)), "mass must be non-negative"),
        (lambda: Allocated(mass=(1.0,)).init((2, 3)), "mass must have one share per region, 3, got 1"),
        (lambda: Regime(drift=Gaussian()), r"drift must be a Drift, got Gaussian\(sigma=1.0\)"),
        (lambda: Regime(level=()), r"level must be a finite number or a tuple of them, one per region, got \(\)"),
        (lambda: Regime(level=(1.0, 2.0)).start(3), "regions must be 2, one per level, got 3"),
    ],
)
def test_bad_hyper_parameters_are_named(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
