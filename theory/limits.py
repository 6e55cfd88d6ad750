r"""Lower limits of the error of any tracker, to compare the bound of a tracker with (T15, T18).

The target moves by at most ``drift`` (D) per step, observations have variance ``sigma``² (s²), a visit has ``batch``
(n) of them, and visits have probability ``visit_rate`` (q). ``when="now"`` includes the newest observation,
``when="next"`` is one step later. The hardest paths are :math:`\pm f`, :math:`f_j = (h-j)_+D` at age j: they differ
most now and give the least evidence, :math:`v = \frac{qn}{s^2}\sum_j f_j^2`. They do not depend on the noise, so the
limits hold for both oblivious and adaptive drift. They assume a past of at least h steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aria import checks
from theory import assumptions
from theory.assumptions import Array, Number, Values, plain
from theory.bounds import _numerics
from theory.bounds.linear import triangle_sums

__all__ = [
    "ELEMENTARY_CONSTANT",
    "LINEAR_CONSTANT",
    "LOWER_CONSTANT",
    "asynchronous_linear_limit",
    "linear_limit",
    "linear_limit_width",
    "minimax_lower_bound",
    "times_limit",
]

LINEAR_CONSTANT = 6 ** (2 / 3) / 3
"""1.1006: best linear tracker's mean squared error over s^(4/3) D^(2/3), as D/s → 0."""
LOWER_CONSTANT = 0.9363167561
"""0.9363: the same for the two-point lower bound on any tracker."""
ELEMENTARY_CONSTANT = 0.6655426934
"""0.6655: the same for its simple form with the normal distribution function."""
DIRECT_AGES = 500
"""Number of ages that are summed one by one; beyond that sums are computed by quadrature."""


def linear_limit_width(sigma: Values, drift: Values, visit_rate: Values = 1.0, batch: Values = 1) -> Number:
    r"""Width h of the best linear tracker's triangular weights :math:`w_j \propto (h-j)_+` (T15-lin).

    The root of :math:`\sum_j j\,(h-j)_+ = \frac{s^2}{qnD^2}`, for both ``when``; about :math:`(6s^2/(qnD^2))^{1/3}`.
    1 without noise; inf without drift.

    >>> round(linear_limit_width(sigma=1.0, drift=0.05), 3)
    13.396
    """
    return plain(_width(_evidence(sigma, drift, visit_rate, batch)[0]))


def linear_limit(
    sigma: Values, drift: Values, visit_rate: Values = 1.0, batch: Values = 1, when: str = "now"
) -> Number:
    r"""Least worst-case mean squared error of any linear (or affine) tracker, exactly (T15-lin):

    .. math:: R_A = \sup_h \frac{(hD)^2}{1 + \frac{qnD^2}{s^2}\sum_j (h-j)_+^2}
                  = \frac{s^2}{qn}\,\frac{h}{\sum_j (h-j)_+}

    with ages j from 0 (now) or 1 (next), and h of :func:`linear_limit_width`. Attained at q = 1 by the triangular
    weights; :math:`1.1006\,(s^2/n)^{2/3}D^{2/3}` for small drift. For q < 1 a lower bound (visits as evenly spread as
    fractions could be), which :func:`asynchronous_linear_limit` sharpens. 0 without drift.

    >>> round(linear_limit(sigma=1.0, drift=0.05), 5)  # the best EMA: 0.15039
    0.13876
    """
    checks.one_of("when", when, ["now", "next"])
    target, variance, d = _evidence(sigma, drift, visit_rate, batch)
    still = np.isinf(target)
    h = np.where(still, 2.0, _width(target))
    total, _, _ = triangle_sums(h, first=int(when == "next"))
    # Below width 2 the one earlier observation has weight h - 1 = s²/(qnD²), which cancels.
    alone = (when == "next") & (h < 2)
    value = np.where(alone, d**2 * h, variance * h / np.where(alone, 1.0, total))
    return plain(np.where(still, 0.0, value))


def asynchronous_linear_limit(
    sigma: Values, drift: Values, visit_rate: Values, batch: Values = 1, when: str = "now"
) -> Number:
    r"""Least worst-case mean squared error of any tracker linear in the observations, given random visits (T18):

    .. math:: \sup_h\ (hD)^2\, E\Big[\frac1{1+S}\Big], \quad S = \frac n{s^2}\sum_j u_j f_j^2, \qquad
              E\frac1{1+S} = \int_0^\infty e^{-x}\prod_j\big(1-q+q\,e^{-xnf_j^2/s^2}\big)\,dx

    with independent visits :math:`u_j` of probability q that the tracker observes. The supremum is computed on a fine
    grid and the integrals by quadrature (to about 10⁻⁶; sums over more than 500 ages too). Never below
    :func:`linear_limit`, to which it is equal at q = 1. A lower bound on the worst case: sharp for the two-point prior.

    >>> round(asynchronous_linear_limit(sigma=1.0, drift=0.01, visit_rate=0.1), 4)
    0.2577
    """
    checks.one_of("when", when, ["now", "next"])
    s, d = assumptions.non_negative("sigma", sigma), assumptions.non_negative("drift", drift)
    q, n = assumptions.half_open_unit("visit_rate", visit_rate), assumptions.at_least_one("batch", batch)
    s, d, q, n = np.broadcast_arrays(s, d, q, n)
    floor = np.asarray(linear_limit(s, d, q, n, when))
    found = [
        _best_pattern(float(b**2 / s_**2) if s_ > 0 else np.inf, float(q_), float(n_), int(when == "next")) * b**2
        if b > 0 and s_ > 0
        else 0.0
        for s_, b, q_, n_ in zip(s.flat, d.flat, q.flat, n.flat)
    ]
    return plain(np.where(q == 1, floor, np.maximum(floor, np.reshape(found, floor.shape))))


def minimax_lower_bound(
    sigma: Values,
    drift: Values,
    visit_rate: Values = 1.0,
    batch: Values = 1,
    when: str = "now",
    prior: str = "best",
) -> Number:
    r"""A worst-case mean squared error that no tracker can beat (T15, T18), already for Gaussian noise.

    The Bayes risk of a prior on multiples of the path f, with evidence v, maximised over h:

    * ``"two"``: ±f with equal probability, :math:`(hD)^2\,E[1-\tanh(v+\sqrt v Z)]`; for small drift
      :math:`.9363\,(s^2/n)^{2/3}D^{2/3}`;
    * ``"three"``: the same with some probability of 0; better for large drift; for q = 1 only;
    * ``"cosine"``: a squared cosine over [−f, f] (van Trees), :math:`(hD)^2/(\pi^2+v)`; sharp for very large drift;
    * ``"elementary"``: below "two", :math:`2(hD)^2\Phi(-\sqrt v)`;
    * ``"best"``: the largest that applies.

    Any h gives a valid bound, so the grid search needs no proof. For q < 1 the mean evidence replaces random visits,
    which convexity in v justifies: proven for "cosine" and "elementary", checked numerically for "two".

    >>> round(minimax_lower_bound(sigma=1.0, drift=0.05), 4)
    0.1154
    """
    checks.one_of("when", when, ["now", "next"])
    checks.one_of("prior", prior, ["best", "two", "three", "cosine", "elementary"])
    target, variance, d = _evidence(sigma, drift, visit_rate, batch)
    q = np.broadcast_to(assumptions.half_open_unit("visit_rate", visit_rate), target.shape)
    if prior == "three" and np.any(q < 1):
        raise ValueError(f"prior='three' needs visit_rate 1, got {float(q.min())!r}: write prior='two'")
    bounds = []
    if prior in ("best", "cosine"):
        bounds.append(np.asarray(_cosine(sigma, drift, visit_rate, batch, when)))
    if prior in ("best", "two"):
        bounds.append(_search(target, variance, d, int(when == "next"), _two_point_risk))
    if prior == "elementary":
        bounds.append(_search(target, variance, d, int(when == "next"), _elementary_risk))
    if prior in ("best", "three"):
        three = _search(target, variance, d, int(when == "next"), _three_point_risk)
        bounds.append(np.where(q == 1, three, 0.0))
    return plain(np.max(bounds, axis=0))


def times_limit(
    mse: Values,
    sigma: Values,
    drift: Values,
    visit_rate: Values = 1.0,
    batch: Values = 1,
    when: str = "now",
    against: str = "linear",
) -> Number:
    """A certified mean squared error as a multiple of the limit: of linear trackers, or, ``against="any"``, of all.

    ``drift`` must be positive: without it the limit is 0.

    >>> from theory.bounds import ema_best_mse
    >>> round(times_limit(ema_best_mse(1.0, 0.003, adaptive=False), sigma=1.0, drift=0.003), 3)
    1.082
    """
    checks.one_of("against", against, ["linear", "any"])
    assumptions.positive("sigma", sigma), assumptions.positive("drift", drift)
    limit = linear_limit if against == "linear" else minimax_lower_bound
    return plain(assumptions.non_negative("mse", mse) / limit(sigma, drift, visit_rate, batch, when))


# -------------------------------------------------------------------------------------------------------------- helpers


def _evidence(sigma: Values, drift: Values, visit_rate: Values, batch: Values) -> tuple[Array, Array, Array]:
    """s²/(qnD²), s²/(qn) and D."""
    s, d = assumptions.non_negative("sigma", sigma), assumptions.non_negative("drift", drift)
    q, n = assumptions.half_open_unit("visit_rate", visit_rate), assumptions.at_least_one("batch", batch)
    s, d, q, n = np.broadcast_arrays(s, d, q, n)
    variance = s**2 / (q * n)
    moves = d > 0
    return np.where(moves, variance / np.where(moves, d, 1.0) ** 2, np.inf), variance, d


def _width(target: Array) -> Array:
    """The h with Σ j (h-j)_+ = target: with J = ⌊h⌋, that sum is J(J+1)(3h-2J-1)/6, at least (J-1)J(J+1)/6."""
    finite = np.where(np.isfinite(target), target, 1.0)
    j = np.maximum(np.floor(np.cbrt(6 * finite)), 1.0)
    for _ in range(2):
        j = np.where(j * (j + 1) * (j + 2) <= 6 * finite, j + 1, j)
        j = np.where((j - 1) * j * (j + 1) > 6 * finite, j - 1, j)
    return np.where(np.isfinite(target), (6 * finite / (j * (j + 1)) + 2 * j + 1) / 3, np.inf)


def _cosine(sigma: Values, drift: Values, visit_rate: Values, batch: Values, when: str) -> Array:
    """sup b²/(π²+v) = R_A(πs)/π²."""
    wide = np.pi * assumptions.non_negative("sigma", sigma)
    return np.asarray(linear_limit(wide, drift, visit_rate, batch, when)) / np.pi**2


def _two_point_risk(evidence: Array) -> Array:
    """1 - E tanh(v + √v Z) = e^(-v/2) E sech(√v Z), by the trapezoidal rule, which converges exponentially here."""
    z = np.linspace(-9, 9, 721)
    weights = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    root = np.sqrt(np.minimum(evidence, 100.0))
    return np.asarray(np.exp(-evidence / 2) * (weights / np.cosh(root[..., None] * z)).sum(-1))


def _three_point_risk(evidence: Array) -> Array:
    """Bayes risk of {-1: (1-p)/2, 0: p, 1: (1-p)/2} seen through a Gaussian of the given evidence, best of a few p."""
    x = np.linspace(-16, 16, 641)
    dx, best = x[1] - x[0], np.zeros_like(evidence)
    root = np.sqrt(np.minimum(evidence, 50.0))[..., None]
    middle = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    left, right = (np.exp(-((x + sign * root) ** 2) / 2) / np.sqrt(2 * np.pi) for sign in (1, -1))
    for p in np.linspace(0.05, 0.5, 10):
        outer = (1 - p) / 2 * (left + right)
        risk = ((1 - p) ** 2 * left * right + outer * p * middle) / (outer + p * middle)
        best = np.maximum(best, risk.sum(-1) * dx)
    return np.where(evidence > 50, 0.0, best)


def _elementary_risk(evidence: Array) -> Array:
    from scipy.special import ndtr

    return np.asarray(2 * ndtr(-np.sqrt(evidence)), dtype=np.float64)


def _search(target: Array, variance: Array, d: Array, first: int, risk: Callable[[Array], Array]) -> Array:
    """sup over h of (hD)² risk(v(h)) by a grid and three refinements, one entry at a time."""
    found = np.zeros(target.shape)
    for where in np.ndindex(target.shape):
        goal = float(target[where])
        if d[where] == 0 or not np.isfinite(goal) or (goal == 0 and not first):
            continue
        # Evidence 1 lies between the widths √target (below 1) and (6·target)^(1/3); search two octaves around.
        low = 0.25 * min(np.sqrt(goal), 1.0) if not first else 0.9
        grid = np.geomspace(low, 4 * max(1.0, (6 * goal) ** (1 / 3)), 200)
        if first:
            grid = np.concatenate([[1.0], grid])
            grid.sort()
        best = 0.0
        for _ in range(4):
            _, square, _ = triangle_sums(grid, first)
            value = grid**2 * risk(square / goal if goal > 0 else np.where(square > 0, np.inf, 0.0))
            top = int(np.argmax(value))
            best = max(best, float(value[top]))
            grid = np.linspace(grid[max(top - 1, 0)], grid[min(top + 1, grid.size - 1)], 40)
        found[where] = best * float(d[where]) ** 2
    return found


def _best_pattern(ratio: float, q: float, n: float, first: int) -> float:
    """sup over h of h² E[1/(1+S)], S = n·ratio·Σ u_j (h-j)_+²."""
    scale = n * ratio
    log_x = np.arange(-21.0, 4.0, 0.3)  # the trapezoidal rule in ln x converges exponentially
    x = np.exp(log_x)
    weight = 0.3 * x * np.exp(-x)

    def value(h: float) -> float:
        return h**2 * float(weight @ np.exp(_log_product(x * scale, q, h, first)))

    middle = float(_width(np.asarray(1 / (q * scale))))
    # There may be one maximum between each pair of whole numbers.
    grid = np.geomspace(0.4 * middle, 4 * max(middle, 2 / q), 100 if middle < 50 else 24)
    best = 0.0
    for _ in range(3):
        values = [value(float(h)) for h in grid]
        top = int(np.argmax(values))
        best = max(best, values[top])
        grid = np.linspace(grid[max(top - 1, 0)], grid[min(top + 1, grid.size - 1)], 12)
    return best


def _log_product(x: Array, q: float, h: float, first: int) -> Array:
    """Σ_j ln(1 - q(1-e^(-x(h-j)²))) over ages j ≥ first below h; beyond 500 ages by Euler and Maclaurin's formula."""

    def terms(ages: Array) -> Array:
        return np.asarray(np.log1p(np.maximum(q * np.expm1(-x[:, None] * (h - ages) ** 2), -1 + 1e-16)))

    if h <= DIRECT_AGES:
        return np.asarray(terms(np.arange(first, np.floor(h) + 1)).sum(-1))
    nodes, weights = _numerics.legendre(200)
    integral = (terms(h / 2 * (nodes + 1)) * weights).sum(-1) * h / 2
    newest = np.exp(-x * h**2)
    slope = 2 * x * h * q * newest / (1 - q + q * newest)  # of the terms, at age 0
    return np.asarray(integral + terms(np.zeros(1))[:, 0] * (0.5 - first) - slope / 12)
