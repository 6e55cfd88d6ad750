"""Intervals cover what they should as often as they say, and claims fall when they should.

Coverage itself is judged by Clopper and Pearson's interval at 1e-6, with fixed seeds.
"""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch

from theory.verdict import (
    Interval,
    holds,
    mean_interval,
    powered,
    proportion_interval,
    truncated_interval,
    variance_interval,
)

ALARM = 0.1
TRIALS = 1500


def covered(interval, samples, truth):
    """Interval of the probability that ``interval`` holds the truth."""
    bands = [interval(sample) for sample in samples]
    return proportion_interval(sum(band.low <= truth <= band.high for band in bands), len(bands), 1e-6)


def numbers(draw, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return draw(torch.Size((TRIALS, size)), generator)


def normal(shape, generator):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def uniform(shape, generator):
    return torch.rand(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("draw, truth", [(normal, 0.0), (uniform, 0.5)])
def test_the_mean_is_covered_as_often_as_promised(draw, truth):
    band = covered(lambda x: mean_interval(x, ALARM), numbers(draw, 400), truth)
    assert band.low <= 1 - ALARM <= band.high


def test_the_variance_of_normal_numbers_is_covered_exactly_even_in_small_samples():
    band = covered(lambda x: variance_interval(x, ALARM), numbers(normal, 5), 1.0)
    assert band.low <= 1 - ALARM <= band.high


def test_the_variance_interval_is_for_normal_numbers_only():
    heavy = numbers(normal, 50) ** 3
    assert covered(lambda x: variance_interval(x, ALARM), heavy, 15.0).high < 1 - ALARM


@pytest.mark.parametrize("chance", [0.003, 0.1, 0.5, 0.97])
def test_proportions_are_covered_at_least_as_often_as_promised(chance):
    """Exactly, by summing over all outcomes."""
    law = scipy.stats.binom(60, chance)
    bands = [proportion_interval(hits, 60, ALARM) for hits in range(61)]
    coverage = sum(law.pmf(hits) for hits, band in enumerate(bands) if band.low <= chance <= band.high)
    assert 1 - ALARM <= coverage
    assert max(band.high - band.low for band in bands) < 0.3  # and not by saying nothing


def test_proportion_ends_are_the_exact_tails():
    band = proportion_interval(7, 40, 0.05)
    assert scipy.stats.binom(40, band.high).cdf(7) == pytest.approx(0.025, rel=1e-9)
    assert scipy.stats.binom(40, band.low).sf(6) == pytest.approx(0.025, rel=1e-9)
    assert proportion_interval(0, 40, 0.05).low == 0 and proportion_interval(40, 40, 0.05).high == 1


def test_truncated_means_are_covered_whatever_the_law():
    """A rare large value, which the normal interval mostly misses altogether."""
    rare = (numbers(uniform, 100) < 0.01).double() * 50
    truth = 0.01 * 10
    assert covered(lambda x: truncated_interval(x, 10.0, ALARM), rare, truth).high >= 1 - ALARM
    assert covered(lambda x: truncated_interval(x, 10.0, ALARM), rare, truth).low > 1 - ALARM
    assert covered(lambda x: mean_interval(x.clamp(max=10), ALARM), rare, truth).high < 1 - ALARM


def test_the_truncated_interval_is_that_of_maurer_and_pontil():
    sample = torch.tensor([0.0, 1.0, 2.0, 9.0], dtype=torch.float64)
    band = truncated_interval(sample, cap=3.0, alarm=0.04)
    log_term, variance = math.log(100), 5 / 3  # of 0, 1, 2, 3
    assert band.value == 1.5
    assert band.high - band.value == pytest.approx(math.sqrt(2 * variance * log_term / 4) + 7 * 3 * log_term / 9)


def test_what_holds():
    band = Interval(1.0, 0.9, 1.1)
    table = {"equal": [False, True, False], "at most": [False, True, True], "above": [True, False, False]}
    for sense, expected in table.items():
        assert [holds(band, sense, reference) for reference in (0.8, 1.0, 1.2)] == expected
    sure = Interval(1.0, 1.0, 1.0)
    assert holds(sure, "equal", 1 + 1e-12) and not holds(sure, "equal", 1 + 1e-6)
    assert not holds(sure, "above", 1.0)  # what must be shown is not shown by a tie


@pytest.mark.parametrize("sense", ["equal", "at most", "above"])
def test_what_is_not_a_number_never_holds(sense):
    assert not holds(Interval(math.nan, math.nan, math.nan), sense, 1.0)
    assert not holds(Interval(1.0, 0.0, 2.0), sense, math.nan)


def test_power_and_ratios():
    assert powered(-0.3, 0.1) and not powered(0.2, 0.1)
    assert Interval(2.0, 1.0, 4.0).over(-2) == Interval(-1.0, -2.0, -0.5)
    assert Interval(2.0, 1.0, 4.0).half == 2


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: mean_interval(torch.zeros(1), 0.1), "at least 2 numbers, got 1"),
        (lambda: mean_interval(torch.zeros(5), 0.0), "alarm must lie in"),
        (lambda: truncated_interval(torch.tensor([-1.0, 1.0]), 1.0, 0.1), "non-negative, got -1.0"),
        (lambda: truncated_interval(torch.zeros(5), 0.0, 0.1), "cap must be positive"),
        (lambda: proportion_interval(5, 4, 0.1), "between 0 and trials=4, got 5"),
        (lambda: holds(Interval(1, 1, 1), "below", 1.0), "sense must be"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
