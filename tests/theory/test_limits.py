"""T15, T15-lin and T18: the supremum by brute force, the tracker that attains it, and how others compare."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from tests.theory.exact import signs
from theory.bounds import (
    asynchronous_best_mse,
    ema_best_mse,
    ema_mse,
    ema_profile,
    kalman_steady,
    mse,
    profile_of_weights,
    triangular_profile,
    window_best_mse,
)
from theory.limits import (
    ELEMENTARY_CONSTANT,
    LINEAR_CONSTANT,
    LOWER_CONSTANT,
    asynchronous_linear_limit,
    linear_limit,
    linear_limit_width,
    minimax_lower_bound,
    times_limit,
)

RHOS = [0.003, 0.03, 0.3, 1.0, 3.0, 30.0]
PRIORS = ["two", "three", "cosine", "elementary"]
WHEN = ["now", "next"]


def hardest(rho, h, when):
    """(h - j)_+ over the ages that are observed, and the evidence in units of (drift / sigma)²."""
    f = np.maximum(h - np.arange(WHEN.index(when), int(h) + 1), 0.0)
    return f, rho**2 * (f**2).sum()


# -------------------------------------------------------------------------------------------------------- T15-lin


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("rho", RHOS)
def test_the_linear_limit_is_the_supremum(rho, when):
    s, q, n = 1.4, 0.5, 3
    per_visit = rho * np.sqrt(q * n)
    widths = np.geomspace(0.05, 40 * max(1, per_visit ** (-2 / 3)), 4000)
    widths = np.sort(np.concatenate([widths, 1 + np.geomspace(1e-5, 1, 2000)]))  # the best may be just above 1
    values = [(h * rho * s) ** 2 / (1 + hardest(per_visit, h, when)[1]) for h in widths]
    limit = linear_limit(s, rho * s, q, n, when)
    assert max(values) <= limit * (1 + 1e-12)
    assert max(values) == pytest.approx(limit, rel=2e-5)
    assert linear_limit_width(s, rho * s, q, n) == pytest.approx(widths[np.argmax(values)], rel=0.01)


@given(st.floats(0.01, 100))
def test_triangular_weights_attain_it_now(rho):
    """Their worst mean squared error on a path that does not look at the noise is the limit itself."""
    width = linear_limit_width(1.3, 1.3 * rho, batch=4)
    reached = mse(triangular_profile(width, batch=4), 1.3, 1.3 * rho, adaptive=False)
    assert reached == pytest.approx(linear_limit(1.3, 1.3 * rho, batch=4), rel=1e-9)


@given(st.floats(0.01, 100))
def test_triangular_weights_attain_it_ahead(rho):
    width = linear_limit_width(1.0, rho)
    f, _ = hardest(rho, width, "next")  # the newest observation has age 1, weight (h-1)_+
    reached = mse(profile_of_weights(f / f.sum()), 1.0, rho, when="next", adaptive=False)
    assert reached == pytest.approx(linear_limit(1.0, rho, when="next"), rel=1e-7)


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=30), st.floats(0.01, 10))
def test_no_weights_do_better(weights, rho):
    w = np.array(weights) / np.sum(weights)
    for when in WHEN:
        worst = mse(profile_of_weights(w), 1.0, rho, when=when, adaptive=False)
        assert worst >= linear_limit(1.0, rho, when=when) * (1 - 1e-12)


# ------------------------------------------------------------------------------------------------------------- T15


Z = np.linspace(-12, 12, 3001)
"""Where integrands are taken: the trapezoid rule is exact to rounding for smooth ones that vanish at both ends."""


def risk_of_two(evidence):
    """1 - E tanh(v + √v Z)."""
    return 1 - np.trapezoid(norm.pdf(Z) * np.tanh(evidence + np.sqrt(evidence) * Z), Z)


def risk_of_prior(points, masses, root):
    """Bayes risk of estimating θ from θ·root + Z: E θ² less the mean square of the posterior mean."""
    x = Z * (1 + root / 9)  # from below -root - 9 to above root + 9
    likelihood = masses[:, None] * norm.pdf(x - points[:, None] * root)
    return (masses * points**2).sum() - np.trapezoid((points @ likelihood) ** 2 / likelihood.sum(0), x)


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("rho", [0.05, 0.6, 2.5])
def test_lower_bounds_are_suprema_of_bayes_risks(rho, when):
    """Each independently integrated risk stays below, and the best of a grid comes close."""
    best = dict.fromkeys(PRIORS, 0.0)
    three = np.array([-1.0, 0.0, 1.0])
    for h in [*np.geomspace(0.1, 5 * max(1, rho ** (-2 / 3)), 45), *np.linspace(1, 1.5, 11)]:
        evidence = hardest(rho, h, when)[1]
        scale = (h * rho) ** 2
        best["two"] = max(best["two"], scale * risk_of_two(evidence))
        best["elementary"] = max(best["elementary"], scale * 2 * norm.cdf(-np.sqrt(evidence)))
        best["cosine"] = max(best["cosine"], scale / (np.pi**2 + evidence))
        for p in (0.05, 0.3):
            masses = np.array([(1 - p) / 2, p, (1 - p) / 2])
            if evidence < 40:
                best["three"] = max(best["three"], scale * risk_of_prior(three, masses, np.sqrt(evidence)))
    for prior in PRIORS:
        bound = minimax_lower_bound(1.0, rho, when=when, prior=prior)
        assert best[prior] <= bound * (1 + 1e-6)
        assert best[prior] >= 0.9 * bound


@given(st.floats(1e-6, 1e4), st.sampled_from(WHEN))
def test_nothing_beats_the_bounds_and_the_bounds_are_ordered(rho, when):
    any_tracker = minimax_lower_bound(1.0, rho, when=when)
    under = {prior: minimax_lower_bound(1.0, rho, when=when, prior=prior) for prior in PRIORS}
    assert max(under.values()) <= any_tracker * (1 + 1e-12)
    assert under["elementary"] <= under["two"] * (1 + 1e-9)
    linear = linear_limit(1.0, rho, when=when)
    assert any_tracker <= linear * (1 + 1e-9)
    assert linear <= ema_best_mse(1.0, rho, when=when, adaptive=False) * (1 + 1e-9)
    assert linear <= window_best_mse(1.0, rho, when=when, adaptive=False) * (1 + 1e-9)


def test_the_wide_prior_is_a_proper_one():
    """The squared cosine's Fisher information is π² over its half width squared: van Trees' bound, step by step."""
    x = np.linspace(-1, 1, 200_001)
    density, slope = np.cos(np.pi * x / 2) ** 2, -np.pi / 2 * np.sin(np.pi * x)
    inside = np.abs(x) < 1
    information = np.trapezoid(np.where(inside, slope**2 / np.where(inside, density, 1), 0), x)
    assert information == pytest.approx(np.pi**2, rel=1e-4) and np.trapezoid(density, x) == pytest.approx(1)
    assert minimax_lower_bound(1.0, 1e4) == pytest.approx(1, rel=1e-6)  # any target: nothing but the noise


# ----------------------------------------------------------------------------------------------- constants and numbers


def test_constants():
    unit = (2.0**2 / 4 * 1e-10) ** (2 / 3)
    args = dict(sigma=2.0, drift=1e-10, batch=4)
    assert pytest.approx(1.1006, abs=5e-5) == LINEAR_CONSTANT
    assert pytest.approx(0.9363, abs=5e-5) == LOWER_CONSTANT
    assert pytest.approx(0.6655, abs=5e-5) == ELEMENTARY_CONSTANT
    assert linear_limit(**args) / unit == pytest.approx(LINEAR_CONSTANT, rel=1e-5)
    assert minimax_lower_bound(**args) / unit == pytest.approx(LOWER_CONSTANT, rel=1e-5)
    assert minimax_lower_bound(**args, prior="elementary") / unit == pytest.approx(ELEMENTARY_CONSTANT, rel=1e-5)
    assert linear_limit(**args, visit_rate=0.125) / unit == pytest.approx(4 * LINEAR_CONSTANT, rel=1e-5)  # q^(-2/3)
    assert minimax_lower_bound(**args, visit_rate=0.125) / unit == pytest.approx(4 * LOWER_CONSTANT, rel=1e-5)
    assert linear_limit_width(**args) ** 3 == pytest.approx(6 * 1e20, rel=1e-5)


@pytest.mark.parametrize(
    ("rho", "linear", "lower"),
    [(0.003, 1.082, 1.277), (0.03, 1.083, 1.294), (0.3, 1.082, 1.347), (1.0, 1.066, 1.328), (3.0, 1.012, 1.376)],
)
def test_how_far_the_best_average_is_from_the_limits(rho, linear, lower):
    best = ema_best_mse(1.0, rho, adaptive=False)
    assert times_limit(best, 1.0, rho) == pytest.approx(linear, abs=5e-4)
    against_all = times_limit(best, 1.0, rho, against="any")
    assert 0.99 * lower < against_all < lower + 5e-4
    assert times_limit(7 * best, 1.0, rho, 0.5, 2) == pytest.approx(7 * best / linear_limit(1.0, rho, 0.5, 2))


@pytest.mark.parametrize(("rho", "times"), [(0.003, 44), (0.03, 9.8), (0.3, 2.3), (1.0, 1.24), (3.0, 1.016)])
def test_how_far_a_filter_for_a_walk_is_from_the_limit(rho, times):
    mistaken = ema_mse(kalman_steady(1.0, rho).gain, 1.0, rho, adaptive=False)
    assert times_limit(mistaken, 1.0, rho) == pytest.approx(times, rel=0.01)


def test_the_adaptive_bound_and_the_limit():
    assert times_limit(ema_best_mse(1.0, 1e-9), 1.0, 1e-9) == pytest.approx(1.5874 / 1.1006, rel=1e-4)
    assert times_limit(mse(ema_profile(0.5), 1.0, 0.3), 1.0, 0.3) > 1


# ------------------------------------------------------------------------------------------------------------- T18


def pattern_risk(rho, q, n, h, when):
    """h² E[1/(1+S)] over all patterns of visits."""
    f, _ = hardest(rho, h, when)
    seen = (signs(f.size) + 1) / 2
    chance = np.prod(np.where(seen > 0, q, 1 - q), axis=1)
    return h**2 * (chance / (1 + n * rho**2 * (seen @ f**2))).sum()


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize(("rho", "q"), [(1.0, 0.7), (3.0, 0.5), (0.7, 0.9)])
def test_the_limit_under_random_visits_is_the_supremum_over_patterns(rho, q, when):
    limit = asynchronous_linear_limit(1.0, rho, q, 2, when) / rho**2
    values = [pattern_risk(rho, q, 2, h, when) for h in np.linspace(0.6, 9, 421)]
    assert max(values) <= limit * (1 + 1e-6)
    assert max(values) == pytest.approx(limit, rel=3e-3)


def test_the_limit_under_random_visits_lies_between():
    for q in (1.0, 0.6, 0.1):
        limit = asynchronous_linear_limit(1.0, 0.05, q)
        assert linear_limit(1.0, 0.05, q) <= limit <= asynchronous_best_mse(q, 1.0, 0.05, adaptive=False)
        assert minimax_lower_bound(1.0, 0.05, q) <= limit
    assert asynchronous_linear_limit(1.0, 0.05, 1.0) == linear_limit(1.0, 0.05)
    # For small drift the visits average out; one of these sums its ages directly, the other by quadrature.
    for drift, loose in ((3e-4, 0.02), (1e-6, 1e-3)):
        assert asynchronous_linear_limit(1.0, drift, 0.3) == pytest.approx(linear_limit(1.0, drift, 0.3), rel=loose)


@pytest.mark.parametrize(("q", "times"), [(1.0, 1.083), (0.3, 1.111), (0.1, 1.158), (0.02, 1.327)])
def test_how_far_the_best_average_is_under_random_visits(q, times):
    best = asynchronous_best_mse(q, 1.0, 0.01, adaptive=False)
    assert best / asynchronous_linear_limit(1.0, 0.01, q) == pytest.approx(times, abs=1e-3)


def test_sums_over_many_ages_are_done_right(monkeypatch):
    from theory import limits

    x = np.geomspace(1e-10, 1e-3, 8)
    for first in (0, 1):
        quick = limits._log_product(x, 0.3, 700.3, first)
        with monkeypatch.context() as patch:
            patch.setattr(limits, "DIRECT_AGES", 10**4)
            assert quick == pytest.approx(limits._log_product(x, 0.3, 700.3, first), rel=1e-6)


def test_nothing_to_track_or_nothing_in_the_way():
    for when in WHEN:
        assert linear_limit(1.0, 0.0, when=when) == 0 == minimax_lower_bound(1.0, 0.0, when=when)
        assert asynchronous_linear_limit(1.0, 0.0, 0.5, when=when) == 0
    assert linear_limit(0.0, 2.0) == 0 == minimax_lower_bound(0.0, 2.0)
    assert linear_limit(0.0, 2.0, when="next") == pytest.approx(4) == minimax_lower_bound(0.0, 2.0, when="next")
    assert (linear_limit_width(0.0, 1.0), linear_limit_width(1.0, 0.0)) == (1, np.inf)
