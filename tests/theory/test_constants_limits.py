"""The constants of the limits, each by a value that depends on it: another arithmetic, or an identity."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from theory import limits


def hardest(width, first):
    return np.maximum(width - np.arange(first, int(width) + 2), 0.0)


@pytest.mark.parametrize("target", [0.0, 0.3, 1.0, 1.7, 3.9, 4.0, 4.1, 9.99, 10.0, 10.01, 20.0, 333.3, 1e7])
def test_the_width_has_its_first_moment(target):
    h = float(limits._width(np.asarray(target)))
    if target > 0:
        f = hardest(h, 0)
        assert (np.arange(f.size) * f).sum() == pytest.approx(target, rel=1e-9)
    else:
        assert h == 1


def test_widths_take_all_there_is():
    s, d, q, n = 2.0, 0.1, 0.25, 4
    target = s**2 / (q * n * d**2)
    assert limits.linear_limit_width(s, d, q, n) == pytest.approx(float(limits._width(np.asarray(target))), rel=1e-12)
    f = hardest(limits.linear_limit_width(s, d, q, n), 0)
    variance = s**2 / (q * n)
    assert limits.linear_limit(s, d, q, n) == pytest.approx(variance * f[0] / f.sum(), rel=1e-9)
    assert limits.linear_limit(s, d, q, n, "next") == pytest.approx(variance * f[0] / f[1:].sum(), rel=1e-9)
    assert limits.linear_limit(1.0, 3.0, when="next") == pytest.approx(9 + 1)  # the one observation, one step old
    assert limits.linear_limit(1.0, 0.85, when="next") == pytest.approx(
        max((h * 0.85) ** 2 / (1 + 0.7225 * (hardest(h, 1) ** 2).sum()) for h in np.linspace(1, 5, 40_001)), rel=1e-6
    )


@pytest.mark.parametrize("evidence", [0.0, 0.01, 0.5, 3.0, 20.0, 45.0])
def test_bayes_risks(evidence):
    root = math.sqrt(evidence)
    two = 1 - quad(lambda z: norm.pdf(z) * math.tanh(evidence + root * z), -12, 12, epsabs=1e-13, limit=400)[0]
    assert float(limits._two_point_risk(np.asarray(evidence))) == pytest.approx(two, rel=1e-7, abs=1e-12)
    elementary = float(limits._elementary_risk(np.asarray(evidence)))
    assert elementary == pytest.approx(2 * norm.cdf(-root), rel=1e-9)

    x = np.linspace(-root - 9, root + 9, 4001)  # the trapezoidal rule converges exponentially
    left, middle, right = norm.pdf(x + root), norm.pdf(x), norm.pdf(x - root)

    def three(p):
        outer = (1 - p) / 2
        explained = (outer * (right - left)) ** 2 / (outer * (left + right) + p * middle)
        return 1 - p - np.trapezoid(explained, x)

    best = max(three(p) for p in np.linspace(0.05, 0.5, 10))
    assert float(limits._three_point_risk(np.asarray(evidence))) == pytest.approx(best, rel=1e-6, abs=1e-12)


def test_bayes_risks_of_overwhelming_evidence():
    assert limits._three_point_risk(np.array([51.0, 1e9])).tolist() == [0, 0]
    assert 0 <= float(limits._two_point_risk(np.asarray(1e6))) < 1e-20


@pytest.mark.parametrize("when", ["now", "next"])
@pytest.mark.parametrize("rho", [0.05, 0.4, 2.5, 6.0])
@pytest.mark.parametrize(("prior", "risk"), [("two", "_two_point_risk"), ("elementary", "_elementary_risk")])
def test_lower_bounds_are_suprema(rho, when, prior, risk):
    first = int(when == "next")
    grid = np.linspace(0.05, 5 * max(1.0, rho ** (-2 / 3)), 6001)
    grid = np.concatenate([grid, np.geomspace(0.02, 2, 3001), 1 + np.geomspace(1e-8, 1, 3001)])
    evidence = np.array([rho**2 * (hardest(h, first) ** 2).sum() for h in grid])
    best = ((grid * rho) ** 2 * getattr(limits, risk)(evidence)).max()
    assert limits.minimax_lower_bound(2.0, 2 * rho, when=when, prior=prior) / 4 == pytest.approx(best, rel=2e-6)
    assert limits.minimax_lower_bound(2.0, 2 * rho, 0.5, 2, when, prior) / 4 == pytest.approx(best, rel=2e-6)


def test_lower_bounds_apply_where_they_say():
    with pytest.raises(ValueError, match="prior='three' needs visit_rate 1, got 0.95"):
        limits.minimax_lower_bound(1.0, 1.0, 0.95, prior="three")
    three = limits.minimax_lower_bound(1.0, 3.0, prior="three")
    assert limits.minimax_lower_bound(1.0, 3.0) == three > limits.minimax_lower_bound(1.0, 3.0, prior="two")
    two = max(limits.minimax_lower_bound(0.1, 0.003, 0.5, prior=prior) for prior in ("two", "cosine"))
    assert limits.minimax_lower_bound(0.1, 0.003, 0.5) == two < 0.1
    wide = limits.linear_limit(np.pi, 2.0) / np.pi**2
    assert limits.minimax_lower_bound(1.0, 2.0, prior="cosine") == pytest.approx(wide, rel=1e-12)


def test_constants_are_what_small_drift_gives():
    unit = 1e-9 ** (2 / 3)
    assert pytest.approx(6 ** (2 / 3) / 3, rel=1e-15) == limits.LINEAR_CONSTANT
    assert limits.minimax_lower_bound(1.0, 1e-9, prior="two") / unit == pytest.approx(limits.LOWER_CONSTANT, rel=1e-6)
    elementary = limits.minimax_lower_bound(1.0, 1e-9, prior="elementary") / unit
    assert elementary == pytest.approx(limits.ELEMENTARY_CONSTANT, rel=1e-6)
    # With h³ = 3v in units of (s/D)^(2/3): sup over v of (3v)^(2/3) times the risk.
    v = np.linspace(0.1, 5, 200_001)
    assert pytest.approx(((3 * v) ** (2 / 3) * 2 * norm.cdf(-np.sqrt(v))).max(), rel=1e-9) == limits.ELEMENTARY_CONSTANT


@pytest.mark.parametrize(("rho", "q", "first"), [(0.2, 0.3, 0), (0.2, 0.3, 1), (1.5, 0.6, 0), (0.05, 0.9, 0)])
def test_the_limit_under_random_visits_is_a_supremum(rho, q, first):
    def product(width, x):
        return np.prod(1 + q * np.expm1(-x * rho**2 * hardest(width, first) ** 2))

    def value(width):
        return width**2 * quad(lambda x: math.exp(-x) * product(width, x), 0, 50, epsabs=1e-9, limit=200)[0]

    middle = limits.linear_limit_width(1.0, rho, q)
    widths = np.linspace(0.5 * middle, 2.5 * max(middle, 2 / q), 40)
    values = [value(h) for h in widths]
    top = int(np.argmax(values))
    fine = [value(h) for h in np.linspace(widths[max(top - 1, 0)], widths[min(top + 1, 39)], 31)]
    when = "next" if first else "now"
    found = limits.asynchronous_linear_limit(2.0, 2 * rho, q, 1, when) / (2 * rho) ** 2
    assert found == pytest.approx(max(fine), rel=5e-5) and found >= max(fine) * (1 - 1e-6)
    assert limits.asynchronous_linear_limit(2.0 * math.sqrt(3), 2 * rho, q, 3, when) == pytest.approx(
        found * (2 * rho) ** 2, rel=1e-9
    )


@pytest.mark.parametrize("first", [0, 1])
def test_many_ages_are_added_by_quadrature(first):
    x = np.geomspace(1e-7, 3e-3, 6)
    for h in (499.7, 500.0, 520.3, 700.3):
        ages = np.arange(first, int(h) + 1)
        exact = np.log1p(0.3 * np.expm1(-x[:, None] * (h - ages) ** 2)).sum(-1)
        assert limits._log_product(x, 0.3, h, first) == pytest.approx(exact, rel=1e-9 if h <= 500 else 1e-6)


@pytest.mark.parametrize("first", [0, 1])
def test_the_slope_at_the_newest_age_counts(first):
    """Euler and Maclaurin's second term is about 1e-5 here, what they leave out below 5e-8."""
    x = np.array([1e-6, 4e-6, 1e-5])
    for h in (520.3, 700.3):
        ages = np.arange(first, int(h) + 1)
        exact = np.log1p(0.3 * np.expm1(-x[:, None] * (h - ages) ** 2)).sum(-1)
        assert limits._log_product(x, 0.3, h, first) == pytest.approx(exact, rel=0, abs=1e-7)


def test_certain_visits_need_no_search():
    for when in ("now", "next"):
        assert limits.asynchronous_linear_limit(1.0, 0.3, 1.0, 2, when) == limits.linear_limit(1.0, 0.3, 1.0, 2, when)
    assert limits.asynchronous_linear_limit(0.05, 0.04, 0.5) == pytest.approx(
        limits.asynchronous_linear_limit(1.0, 0.8, 0.5) / 400, rel=1e-9
    )
    assert limits.asynchronous_linear_limit(0.0, 1.0, 0.5) == limits.linear_limit(0.0, 1.0, 0.5)
    # Large drift, a miss in a thousand visits: hardly more than the noise of one observation.
    assert 0.97 < limits.linear_limit(1.0, 6.0, 0.999) <= limits.asynchronous_linear_limit(1.0, 6.0, 0.999) < 1.02
    ratio = limits.times_limit(3.0, 1.0, 0.5, against="any")
    assert ratio == pytest.approx(3 / limits.minimax_lower_bound(1.0, 0.5))


def test_the_root_of_the_linear_limit_is_its_width():
    h = brentq(lambda h: (np.arange(int(h) + 2) * hardest(h, 0)).sum() - 1 / 0.05**2, 5, 30, xtol=1e-12)
    assert limits.linear_limit_width(1.0, 0.05) == pytest.approx(h, rel=1e-9)
