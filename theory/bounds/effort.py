r"""Errors weighted by visits: bounds that need no smallest visit probability (T13, T13').

The visit probability :math:`q_t` may depend on the past in any way. Errors are weighted by it,
:math:`\sum_t E[q_t e_{t-1}^2] / \sum_t E q_t`, the mean squared error at the times when the tracker is used.
``effort`` is the expected number of visits :math:`W = \sum_t E q_t`; :math:`F = \frac{b}{2-b}s^2/n`.
"""

from __future__ import annotations

import numpy as np

from theory import assumptions
from theory.assumptions import Array, Number, Values, plain


def effort_weighted_mse(
    rate: Values,
    sigma: Values,
    effort: Values = np.inf,
    initial_square: Values = 0.0,
    final_square: Values = 0.0,
    batch: Values = 1,
) -> Number:
    r"""Visit-weighted mean squared error without drift, exactly (T13): :math:`F + \frac{e_0^2 - E e_T^2}{\kappa W}`.

    For any selection: regions may be chosen by their own estimates. Assumes no drift and noise of variance
    exactly s². With ``final_square`` (:math:`E e_T^2`) at 0 it is an upper bound.

    >>> effort_weighted_mse(0.5, sigma=3.0)
    3.0
    """
    b, s = assumptions.half_open_unit("rate", rate), assumptions.non_negative("sigma", sigma)
    n, effort_ = assumptions.at_least_one("batch", batch), assumptions.positive_or_inf("effort", effort)
    first = assumptions.non_negative("initial_square", initial_square)
    last = assumptions.non_negative("final_square", final_square)
    return plain(s**2 * b / (2 - b) / n + (first - last) / (b * (2 - b) * effort_))


def effort_weighted_bias(rate: Values, effort: Values, initial: Values = 0.0, final: Values = 0.0) -> Number:
    r"""Visit-weighted mean error without drift, exactly (T13): :math:`(e_0 - E e_T)/(bW)`, so 0 after many visits."""
    b, effort_ = assumptions.half_open_unit("rate", rate), assumptions.positive_or_inf("effort", effort)
    return plain((assumptions.finite("initial", initial) - assumptions.finite("final", final)) / (b * effort_))


def selection_bias(rate: Values, sigma: Values, sensitivity: Values, batch: Values = 1) -> Number:
    r"""Bias, averaged over time, of an estimate that steers its own visits (T13): about :math:`-\frac{d\ln q}{d\mu}F`.

    ``sensitivity`` is :math:`d\ln q/d\mu`: an allocator that prefers large estimates biases them low, since regions
    with small estimates are revisited, and corrected, late. First order in the error; not a bound.

    >>> round(selection_bias(0.3, sigma=0.5, sensitivity=0.8), 4)
    -0.0353
    """
    b, s = assumptions.half_open_unit("rate", rate), assumptions.non_negative("sigma", sigma)
    slope, n = assumptions.finite("sensitivity", sensitivity), assumptions.at_least_one("batch", batch)
    return plain(-slope * s**2 * b / (2 - b) / n)


def coupled_drift_mse(
    rate: Values,
    sigma: Values,
    drift: Values,
    effort: Values = np.inf,
    initial: Values = 0.0,
    batch: Values = 1,
) -> Number:
    r"""Visit-weighted mean squared error if regions drift only through training (T13'): :math:`|d_t| \le D_1 q_t`.

    .. math:: c^2,\qquad c = \frac{D_1 + \sqrt{D_1^2 + \kappa(b^2s^2/n + D_1^2 + e_0^2/W)}}{\kappa}

    Independent of how rarely the region is visited. ``drift`` is :math:`D_1`; drift and visits may depend on the past.

    >>> round(coupled_drift_mse(0.1, sigma=1.0, drift=0.01), 3)
    0.084
    """
    b, s = assumptions.half_open_unit("rate", rate), assumptions.non_negative("sigma", sigma)
    d, n = assumptions.non_negative("drift", drift), assumptions.at_least_one("batch", batch)
    spread = assumptions.non_negative("initial", initial) ** 2 / assumptions.positive_or_inf("effort", effort)
    kappa = b * (2 - b)
    return plain(((d + np.sqrt(d**2 + kappa * (b**2 * s**2 / n + d**2 + spread))) / kappa) ** 2)


def closed_loop_mse(
    rate: Values,
    sigma: Values,
    level: Values,
    shrink: Values,
    effort: Values,
    initial: Values = 0.0,
    batch: Values = 1,
) -> Number:
    r"""Visit-weighted mean squared error if training shrinks the target (T13'): :math:`\mu_{t+1} = \mu_t(1-c\,q_t)`.

    .. math:: \frac1W\Big(\frac{\sqrt B + \sqrt{B + \kappa(e_0^2 + B + b^2s^2W/n)}}{\kappa}\Big)^2, \qquad
              B = \frac{c\,\mu_0^2}{2-c}

    with ``level`` :math:`\mu_0` and ``shrink`` c in (0, 1]. The total cost of the drift is finite: the bound falls
    to F as W grows. Visits may depend on the past.

    >>> round(closed_loop_mse(0.1, sigma=1.0, level=1.0, shrink=0.01, effort=1e6), 4)  # F = .0526
    0.0528
    """
    b, s = assumptions.half_open_unit("rate", rate), assumptions.non_negative("sigma", sigma)
    mu, c = assumptions.finite("level", level), assumptions.half_open_unit("shrink", shrink)
    effort_, e0 = assumptions.positive("effort", effort), assumptions.non_negative("initial", initial)
    n, kappa = assumptions.at_least_one("batch", batch), b * (2 - b)
    moved: Array = c * mu**2 / (2 - c)
    root = np.sqrt(moved) + np.sqrt(moved + kappa * (e0**2 + moved + b**2 * s**2 * effort_ / n))
    return plain((root / kappa) ** 2 / effort_)
