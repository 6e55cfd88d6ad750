"""What experiments are made of: intervals of quantiles, probes around trackers, and the foils."""

from __future__ import annotations

import math

import pytest
import torch

from aria.interfaces import RegionStats
from aria.statistics import one_each
from aria.trackers import EMA, Window
from theory import moments
from theory.bounds import triangular_profile
from theory.claims.foils import BayesRule, Triangular, WeightedEMA
from theory.claims.probes import Apart, Radius, Recent
from theory.claims.stories.limits import Ramp
from theory.regimes import Gaussian, Regime
from theory.verdict import quantile_interval


def run(tracker, observations, visit=1.0):
    """Estimates and the last state; None is no visit."""
    state, values = tracker.init((1,)), []
    for y in observations:
        one = torch.tensor([0.0 if y is None else 1.0], dtype=torch.float64)
        total = one * (y or 0.0)
        state = tracker.update(state, RegionStats(one, total, total * total, torch.full_like(one, visit)))
        values.append(float(tracker.estimate(state).value))
    return values, state


def test_quantile_intervals_miss_as_rarely_as_promised():
    generator, misses, true = torch.Generator().manual_seed(3), 0, -math.log(0.1)
    for _ in range(2000):
        x = torch.empty(300, dtype=torch.float64).exponential_(generator=generator)
        band = quantile_interval(x, 0.9, alarm=0.05)
        misses += not band.low <= true <= band.high
    assert 40 < misses < 120  # discrete, so somewhat below 100


@pytest.mark.parametrize("level, end", [(0.9999, "high"), (0.0001, "low")])
def test_a_quantile_beyond_the_sample_has_an_open_interval(level, end):
    band = quantile_interval(torch.arange(1000.0), level, alarm=1e-6)
    assert math.isinf(getattr(band, end)) and math.isfinite(band.value)


def test_a_probe_estimates_as_the_tracker_it_wraps():
    ys = [1.0, 4.0, 2.0, 8.0]
    expected, _ = run(EMA(0.5), ys)
    for probe in (Radius(EMA(0.5)), Recent(EMA(0.5)), Apart(EMA(0.5), EMA(0.25))):
        assert run(probe, ys)[0] == pytest.approx(expected)


def test_what_probes_expose():
    ys = [1.0, 4.0, 2.0, 8.0]
    fast, slow = (run(EMA(rate), ys)[0] for rate in (0.5, 0.25))
    gaps = [abs(a - b) for a, b in zip(fast, slow)]
    apart = Apart(EMA(0.5), EMA(0.25))
    peak, gap, _ = apart.certificate(run(apart, ys)[1])
    assert float(peak) == pytest.approx(max(gaps)) and float(gap) == pytest.approx(fast[-1] - slow[-1])
    recent = Recent(EMA(0.5))
    assert [float(part) for part in recent.certificate(run(recent, ys)[1])] == [8.0, 2.0, 4.0]
    sized = Radius(Window(4, sigma=2.0))
    assert float(sized.certificate(run(sized, ys)[1]).start) == pytest.approx(1.0)


@pytest.mark.parametrize("foil", [Triangular(2.5), WeightedEMA(0.3), BayesRule(3.0, slope=0.1)])
def test_foils_are_trackers(foil):
    batched = foil.init((3, 2))
    stats = one_each([1.0, 2.0])
    both = RegionStats(*(part.expand(3, 2) for part in stats))
    assert foil.estimate(foil.update(batched, both)).value.shape == (3, 2)


def test_triangular_weights_are_those_of_the_bound():
    width = 4.3
    weights = moments.weights(Triangular(width), steps=8)
    ramp = (width - torch.arange(8, dtype=torch.float64)).clamp(min=0)
    assert torch.allclose(weights, ramp / ramp.sum())
    profile = triangular_profile(width)
    assert float((weights * torch.arange(8)).sum()) == pytest.approx(profile.lag)
    assert float((weights**2).sum()) == pytest.approx(profile.noise)


def test_bayes_rule_is_the_posterior_mean():
    rule = BayesRule(2.0, slope=0.5, sigma=0.7)  # paths ±(0.5, 1.0)
    values, _ = run(rule, [0.3, 0.9])
    plus = math.exp(-((0.3 - 0.5) ** 2 + (0.9 - 1.0) ** 2) / (2 * 0.49))
    minus = math.exp(-((0.3 + 0.5) ** 2 + (0.9 + 1.0) ** 2) / (2 * 0.49))
    assert values[-1] == pytest.approx((plus - minus) / (plus + minus))


def test_importance_weights_on_observations_are_unbiased_and_pull_to_0_between():
    values, _ = run(WeightedEMA(0.5), [2.0, None, 2.0], visit=0.5)
    assert values == pytest.approx([2.0, 1.0, 2.5])


def test_a_ramp_rises_at_the_end_and_never_faster_than_its_slope():
    ramp = Ramp(slope=0.1, width=3.5, last=10)
    moves = [ramp.move(step) for step in range(1, 11)]
    assert sum(moves) == pytest.approx(0.35) and moves[:6] == [0.0] * 6
    assert max(moves) <= ramp.bound() + 1e-12 and moves[6] == pytest.approx(0.05)
    exact = moments.exact(EMA(1.0), Regime(ramp, Gaussian(0.5)), 10)
    assert float(exact.mean) == pytest.approx(0) and float(exact.variance) == pytest.approx(0.25)
