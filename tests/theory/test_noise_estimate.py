"""What was planted in a log comes back: noise, drift and visit rate within the errors that are stated with them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from aria.samplers import draws
from theory.log import VisitTable
from theory.noise_estimate import Readings
from theory.regimes import (
    NAMED,
    Bernoulli,
    Binomial,
    EveryStep,
    Gaussian,
    Linear,
    Past,
    Random,
    Regime,
    Sinusoid,
)

REGIONS = 40
FALSE_ALARM = 1e-6


def visits_of(regime, steps, regions=REGIONS, seed=0):
    """(n, mean), (T, K) each, as the regime shows them."""
    shape = (1, regions)
    random, shown = Random(draws.step_seed(seed, 0), shape), []
    memory = [part.init(shape) for part in (regime.visits, regime.drift, regime.noise)]
    truth = regime.start(regions).expand(shape).clone()
    for step in range(1, steps + 1):
        past = Past(step, truth, None)
        seen, memory[0] = regime.visits.step(memory[0], past, random)
        move, memory[1] = regime.drift.step(memory[1], past._replace(visit=seen.visit), random)
        truth = truth + move
        noise, memory[2] = regime.noise.step(memory[2], Past(step, truth, None, seen.visit), random)
        n = seen.n.expand(shape)
        shown.append(np.stack([n[0].numpy(), (truth + noise / n.clamp(min=1).sqrt())[0].numpy()]))
    return np.stack(shown, 1)


def table(n, mean, begin=0):
    """A (T, K) piece of a log that begins at step ``begin``, with no scatter within visits."""
    region, step = np.nonzero(n.T > 0)
    n, mean = n[step, region], mean[step, region]
    return VisitTable(region, step + begin, n, mean, *(np.full_like(mean, x) for x in (0, 0, 1, np.nan)))


def read(n, mean):
    readings = Readings()
    readings.add(table(n, mean))
    return readings.read()


def column(found, name):
    return np.array([getattr(reading, name) for reading in found])


PLANTED = {
    "still": (Regime(noise=Gaussian(0.5)), 1500, 0.0, 1.0),
    "slow": (Regime(Linear(0.002)), 3000, 0.002, 1.0),
    "fast": (Regime(Linear(0.3)), 1500, 0.3, 1.0),
    "batches of four": (Regime(Linear(0.01), visits=EveryStep(batch=4)), 1500, 0.01, 1.0),
    "rare visits": (Regime(Linear(0.01), visits=Bernoulli(0.2)), 5000, 0.01, 0.2),
    "random batches": (Regime(Linear(0.01), visits=Binomial(8, share=0.05)), 4000, 0.01, 1 - 0.95**8),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_was_planted_comes_back_within_the_stated_errors(name):
    """40 regions. Each z is off by up to a fifth (visits at random scatter more); so many Gaussian ones stay below
    the threshold but for a false alarm of 1e-6, and so does their mean."""
    regime, steps, drift, rate = PLANTED[name]
    found = read(*visits_of(regime, steps))
    worst = stats.norm.isf(FALSE_ALARM / 2 / REGIONS) * 1.2
    sigma = (column(found, "sigma") - regime.sigma) / column(found, "sigma_error")
    assert np.abs(sigma).max() < worst
    assert np.abs(column(found, "visit_rate").mean() - rate) < 5 * (rate * (1 - rate) / steps / REGIONS) ** 0.5 + 1e-9
    assert not any(reading.warnings for reading in found)
    if drift == 0:
        assert (column(found, "drift") == 0).all()
        assert {reading.course for reading in found} == {"still"}
        return
    assert {reading.course for reading in found} == {"steady"}
    z = (column(found, "drift") - drift) / column(found, "drift_error")
    assert np.abs(z).max() < worst
    assert 0.5 < z.std() < 1.4  # the stated errors are those there are
    assert abs(column(found, "drift").mean() / drift - 1) < 0.03


def test_a_drift_that_cannot_be_seen_is_bounded():
    """Below the limit nothing is said; above, it is seen in nearly every region."""
    still = read(*visits_of(Regime(), 1500))
    limit = column(still, "drift_limit").max()
    below, above = (read(*visits_of(Regime(Linear(limit * factor)), 1500)) for factor in (0.1, 1.5))
    assert (column(below, "drift") == 0).all()
    assert (column(above, "drift") > 0).mean() > 0.9


@pytest.mark.parametrize("rho", [-0.4, 0.5])
def test_correlated_noise_is_reported_and_measured(rho):
    """AR(1) noise of deviation 1 in ten regions."""
    noise = np.random.default_rng(0).normal(size=(5000, 10))
    for step in range(1, len(noise)):
        noise[step] = rho * noise[step - 1] + (1 - rho**2) ** 0.5 * noise[step]
    found = read(np.ones_like(noise), noise)
    sentences = [next(warning for warning in reading.warnings if "correlated" in warning) for reading in found]
    assert np.mean([float(sentence.split()[-1]) for sentence in sentences]) == pytest.approx(rho, abs=0.05)


def test_heavy_tails_jumps_and_walks_are_reported():
    def share_of(regime, word, steps=2000):
        return np.mean([any(word in warning for warning in r.warnings) for r in read(*visits_of(regime, steps))])

    assert share_of(NAMED["student"], "heavy tails") == 1
    assert share_of(NAMED["jump"], "a jump or a short fall") > 0.9
    assert share_of(NAMED["random-walk"], "the drift does not last", steps=5000) > 0.8
    assert share_of(Regime(Sinusoid(amplitude=1.0, frequency=0.05)), "the drift does not last") > 0.9
    assert share_of(Regime(Linear(3.0)), "larger than the noise") == 1


def test_a_jump_is_found_where_it_was():
    found = read(*visits_of(NAMED["jump"], 2000))
    steps = [
        float(warning.split("step ")[1].split(":")[0])
        for r in found
        for warning in r.warnings
        if "short fall" in warning
    ]
    assert np.abs(np.median(steps) - 200) < 60


def test_noise_that_grows_is_reported():
    noise = np.random.default_rng(0).normal(size=(4000, REGIONS)) * np.where(np.arange(4000) < 1000, 1, 2)[:, None]
    assert all(any("changes over time" in warning for warning in r.warnings) for r in read(np.ones_like(noise), noise))


def test_samples_of_a_visit_that_are_alike_are_reported():
    """Each visit has its own level, which its four samples share: they scatter less than visits do."""
    random = np.random.default_rng(0)
    y = random.normal(size=(500, 1)) + random.normal(size=(500, 4))
    readings = Readings()
    step, four = np.arange(500), np.full(500, 4.0)
    readings.add(VisitTable(0 * step, step, four, y.mean(1), y.var(1) * 4, four - 1, four / 4, four * np.nan))
    (found,) = readings.read()
    assert found.sigma == pytest.approx(1, abs=5 * found.sigma_error)
    assert found.sigma_from == "within"
    assert any("samples of a visit are correlated" in warning for warning in found.warnings)


@pytest.mark.parametrize("cuts", [(1,), (2, 3, 4), (700, 701), tuple(range(1, 1200, 7))])
def test_pieces_read_as_the_whole(cuts):
    n, mean = visits_of(PLANTED["random batches"][0], 1200, regions=3)
    readings = Readings()
    for begin, end in zip((0, *cuts), (*cuts, 1200), strict=True):
        readings.add(table(n[begin:end], mean[begin:end], begin))
    for got, expected in zip(readings.read(), read(n, mean), strict=True):
        assert got.warnings == expected.warnings
        numbers = [(a, b) for a, b in zip(got, expected, strict=True) if isinstance(a, float)]
        assert len(numbers) > 8
        assert all(a == pytest.approx(b, rel=1e-9) for a, b in numbers)


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_few_visits_are_not_judged(count):
    (found,) = read(np.ones((count, 1)), np.arange(count, dtype=float)[:, None] % 3)
    assert not found.judged and not found.plausible
    assert found.remarks[0] == f"not judged: {count} of 32 steps"


def test_assumptions_are_judged_from_32_steps_on():
    few, enough = (read(np.ones((count, 1)), np.random.default_rng(0).normal(size=(count, 1)))[0] for count in (31, 32))
    assert (few.judged, enough.judged) == (False, True)
    assert not few.plausible and enough.plausible and enough.remarks == ()
