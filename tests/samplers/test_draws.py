"""Draws: counts, bias and independence, each at a stated false-alarm probability."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aria.samplers import draws
from tests.strategies import simplex

FALSE_ALARM = 1e-6


def generator(seed):
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 40).flatmap(simplex), st.integers(1, 300), st.integers(0, 2**32))
def test_systematic_counts_are_within_one_of_their_expectation(probs, n, seed):
    regions = draws.invert(probs.cumsum(0), draws.systematic(n, generator(seed)))
    counts = torch.bincount(regions, minlength=len(probs))
    assert ((counts - n * probs).abs() < 1 + 1e-9).all()
    assert counts.sum() == n


def test_systematic_draws_are_unbiased():
    """The offset is uniform, so the mean count over 20 000 draws is n·q up to sampling error (normal bounds)."""
    probs = torch.tensor([0.03, 0.47, 0.21, 0.29], dtype=torch.float64)
    n, repeats = 7, 20_000
    counts = torch.zeros(len(probs), dtype=torch.float64)
    for seed in range(repeats):
        counts += torch.bincount(
            draws.invert(probs.cumsum(0), draws.systematic(n, generator(seed))), minlength=len(probs)
        )
    fraction = (n * probs) % 1
    stderr = (fraction * (1 - fraction) / repeats).sqrt()  # each count is one of two neighbouring integers
    z = (counts / repeats - n * probs).abs() / stderr
    assert z.max() < stats.norm.isf(FALSE_ALARM / (2 * len(probs)))


def test_systematic_batches_are_shuffled():
    """Otherwise the first rank would hold the low regions only: each half of the batch sees both halves of them."""
    probs = torch.full((64,), 1 / 64, dtype=torch.float64)
    random = generator(0)
    regions = draws.shuffled(draws.invert(probs.cumsum(0), draws.systematic(64, random)), random)
    assert sorted(regions.tolist()) == list(range(64))
    low = (regions[:32] < 32).sum().item()
    assert stats.hypergeom.cdf(low, 64, 32, 32) > FALSE_ALARM < stats.hypergeom.sf(low - 1, 64, 32, 32)


def test_independent_draws_follow_the_distribution():
    probs = torch.tensor([0.5, 0.125, 0.25, 0.125], dtype=torch.float64)
    regions = draws.invert(probs.cumsum(0), draws.independent(100_000, generator(1)))
    counts = torch.bincount(regions, minlength=4)
    assert stats.chisquare(counts.numpy(), (100_000 * probs).numpy()).pvalue > FALSE_ALARM


@given(
    st.lists(st.sampled_from([0.0, 1e-300, 1e-17, 0.1, 1.0]), min_size=1, max_size=12).filter(any),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1),
)
def test_regions_of_probability_zero_are_never_drawn(weights, points):
    q = torch.tensor(weights, dtype=torch.float64)
    extreme = torch.tensor([*points, 0.0, 1.0], dtype=torch.float64) * draws.BELOW_ONE
    assert (q[draws.invert(q.cumsum(0), extreme)] > 0).all()


def test_visit_probabilities():
    """Share of 20 000 draws that visit each region, against the formula."""
    probs = torch.tensor([0.02, 0.1, 0.38, 0.5], dtype=torch.float64)
    n, repeats = 5, 20_000
    for draw, formula in ((draws.systematic, draws.systematic_visit), (draws.independent, draws.independent_visit)):
        visited = torch.zeros(4, dtype=torch.float64)
        for seed in range(repeats):
            visited += torch.bincount(draws.invert(probs.cumsum(0), draw(n, generator(seed))), minlength=4).clamp(max=1)
        expected = formula(probs, n)
        stderr = (expected * (1 - expected) / repeats).sqrt()
        z = (visited / repeats - expected).abs() / stderr.clamp(min=1e-12)
        assert z.max() < stats.norm.isf(FALSE_ALARM / 16)


def test_step_seeds_differ_over_seeds_and_steps():
    seeds = {draws.step_seed(seed, step) for seed in range(100) for step in range(1000)}
    assert len(seeds) == 100_000


def test_neighbouring_steps_draw_independently():
    """Correlation of the first uniform of neighbouring steps over 20 000 steps: normal with deviation 1/√n."""
    first = torch.stack([draws.independent(1, generator(draws.step_seed(3, step))) for step in range(20_000)]).flatten()
    correlation = torch.corrcoef(torch.stack([first[:-1], first[1:]]))[0, 1].abs()
    assert correlation * 20_000**0.5 < stats.norm.isf(FALSE_ALARM / 2)


def test_step_seeds_are_those_of_splitmix64():
    """The first two outputs of its reference implementation from 1234567, and how seed and step come together."""
    assert [draws._scramble(1234567 + shift) for shift in (0, 0x9E3779B97F4A7C15)] == [
        6457827717110365317,
        3203168211198807973,
    ]
    assert draws.step_seed(1234567, 0) == draws._scramble(6457827717110365317)
    assert draws.step_seed(1234567, 6457827717110365317) == draws._scramble(0)
    for seed, step in ((-1, 5), (5, -1)):  # any whole number will do: what counts is its lower half
        assert draws.step_seed(seed, step) == draws.step_seed(seed % 2**64, step % 2**64)


@given(st.floats(1e-300, 1e300))
def test_what_is_below_one_is_below_any_number_times_that_number(number):
    assert 1 - 1e-15 < draws.BELOW_ONE and draws.BELOW_ONE * number < number


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000])
def test_the_largest_offset_stays_below_one(n, monkeypatch):
    monkeypatch.setattr(draws.torch, "rand", lambda *size, **settings: torch.full(size, 1 - 2**-53).double())
    for points in (draws.systematic(n, generator(0)), draws.independent(n, generator(0))):
        assert points.dtype == torch.float64 and points.shape == (n,)
        assert float(points.max()) <= draws.BELOW_ONE


def test_a_visit_is_certain_at_most():
    probs = torch.tensor([0.05, 0.25, 0.7], dtype=torch.float64)
    assert draws.systematic_visit(probs, 4).tolist() == [0.2, 1.0, 1.0]
    assert draws.independent_visit(probs, 2).tolist() == pytest.approx([0.0975, 0.4375, 0.91])


@given(st.integers(1, 64), st.data())
def test_a_visit_is_a_probability_however_few_rows_count(n, data):
    """In [0, 1]; 0 without probability or rows that count, 1 with all of both; and close to the exact one."""
    counted = data.draw(st.integers(0, n))
    q = [*data.draw(st.lists(st.floats(0, 1), min_size=1, max_size=8)), 0.0, 1.0]
    probs = torch.tensor(q, dtype=torch.float64)
    for formula in (draws.systematic_visit, draws.independent_visit):
        for rows in (counted, torch.tensor(counted)):
            visit = formula(probs, n, rows)
            assert bool(((visit >= 0) & (visit <= 1)).all())
            assert float(visit[-2]) == 0 and float(visit[-1]) == (counted > 0)
    exact = [1 - sum(share * missed(c, n, counted) for c, share in places(float(p), n)) for p in probs]
    assert draws.systematic_visit(probs, n, counted).tolist() == pytest.approx(exact, abs=1e-12)


def places(prob, n):
    """The two numbers of draws of a region, and the probability of each."""
    fewer = math.floor(prob * n)
    return (fewer, 1 - (prob * n - fewer)), (fewer + 1, prob * n - fewer)


def missed(draws, n, counted):
    return math.comb(n - draws, counted) / math.comb(n, counted) if draws <= n else 0.0
