r"""The value of an allocation, and the cost of errors in its estimates (T20 to T24).

The objective is :math:`J = \sum_k p_k\theta_k`, estimated by :math:`Z = (p_k/q_k)Y` with region k drawn from the
allocation q, :math:`E[Y|k] = \theta_k` and :math:`E|Y|^2 = m_k^2` (for gradients, the squared norm). Arrays
are (..., K).
"""

from __future__ import annotations

import numpy as np

from theory import assumptions
from theory.assumptions import Array, Number, Values, plain


def importance_bias(mass: Values, allocation: Values, values: Values) -> Number:
    r"""Bias of the reweighted objective (T20): :math:`-\sum_{k: q_k=0} p_k\theta_k`.

    So 0 for any allocation with a floor, however it depends on the past: given the past, the estimate is unbiased.

    >>> importance_bias([0.5, 0.5], [1.0, 0.0], values=[3.0, 4.0])
    -2.0
    """
    p, q = assumptions.distribution("mass", mass), assumptions.distribution("allocation", allocation)
    return plain(-(p * assumptions.finite("values", values) * (q == 0)).sum(-1))


def importance_second_moment(mass: Values, allocation: Values, magnitude: Values) -> Number:
    r"""Second moment of the reweighted objective, exactly (T20): :math:`\sum_k p_k^2m_k^2/q_k`; the variance less |J|².

    ``magnitude`` is m, the root mean square of Y in each region. inf where a region that matters is never drawn.

    >>> importance_second_moment([0.5, 0.5], [0.25, 0.75], magnitude=[1.0, 3.0])
    4.0
    """
    weight = assumptions.distribution("mass", mass) * assumptions.non_negative("magnitude", magnitude)
    return plain(_second_moment(weight, assumptions.distribution("allocation", allocation)))


def best_allocation(mass: Values, magnitude: Values) -> Array:
    r"""The allocation of least second moment (T21): :math:`q^\circ \propto p\,m`.

    (With fixed counts per region, m is the standard deviation instead.) At least one region must matter.

    >>> best_allocation([0.5, 0.5], magnitude=[1.0, 3.0])
    array([0.25, 0.75])
    """
    weight = assumptions.distribution("mass", mass) * assumptions.non_negative("magnitude", magnitude)
    assumptions.positive("the sum of mass * magnitude", weight.sum(-1))
    return np.asarray(weight / weight.sum(-1, keepdims=True))


def best_second_moment(mass: Values, magnitude: Values) -> Number:
    r"""The least second moment of any allocation (T21): :math:`(\sum_k p_km_k)^2`, that of :func:`best_allocation`."""
    weight = assumptions.distribution("mass", mass) * assumptions.non_negative("magnitude", magnitude)
    return plain(weight.sum(-1) ** 2)


def allocation_loss(mass: Values, allocation: Values, magnitude: Values) -> Number:
    r"""Relative excess of an allocation over the best, exactly (T21):
    :math:`\chi^2 = \sum_k (q^\circ_k-q_k)^2/q_k`, so that the second moment is :math:`(\sum pm)^2(1+\chi^2)`.

    >>> allocation_loss([0.5, 0.5], [0.5, 0.5], magnitude=[1.0, 3.0])
    0.25
    """
    q, best = assumptions.distribution("allocation", allocation), best_allocation(mass, magnitude)
    return plain(_second_moment(best - q, q))


def misallocation_factor(error: Values, floor: Values = 0.0) -> Number:
    r"""Second moment of an allocation by estimates, over the best (T22): at most :math:`1/((1-\epsilon^2)(1-\alpha))`.

    Estimates within a factor 1±``error`` of m, up to a common scale, allocated :math:`\propto p\hat m` and mixed with a
    share ``floor`` :math:`\alpha` of anything. Sharp without floor: half the weight at either end of the range.

    >>> round(misallocation_factor(0.4), 4)
    1.1905
    """
    eps, alpha = assumptions.unit_but_one("error", error), assumptions.unit_but_one("floor", floor)
    return plain(1 / ((1 - eps) * (1 + eps) * (1 - alpha)))


def floor_second_moment(mass: Values, magnitude: Values, floor: Values, base: Values | None = None) -> Number:
    r"""Largest second moment of any allocation with a floor (T22): :math:`\frac1\alpha\sum_k p_k^2m_k^2/u_k`.

    For any estimates. The floor is :math:`q \ge \alpha u` with ``base`` u, by default the mass, as in the
    sampler; 1/K each gives :math:`(K/\alpha)\sum p^2m^2`.

    >>> floor_second_moment([0.5, 0.5], magnitude=[1.0, 3.0], floor=0.1)
    50.0
    """
    p, alpha = assumptions.distribution("mass", mass), assumptions.half_open_unit("floor", floor)
    u = p if base is None else assumptions.distribution("base", base)
    weight = p * assumptions.non_negative("magnitude", magnitude)
    return plain(np.asarray(_second_moment(weight, u)) / alpha)


def _second_moment(weight: Array, q: Array) -> Array:
    drawn = q > 0
    terms = np.where(drawn, weight**2 / np.where(drawn, q, 1.0), np.where(weight == 0, 0.0, np.inf))
    return np.asarray(terms.sum(-1))


# --------------------------------------------------------------------------------- T23: how far an allocation can move


def total_variation(first: Values, second: Values) -> Number:
    """Half the sum of absolute differences of two distributions.

    >>> total_variation([0.5, 0.5], [0.75, 0.25])
    0.25
    """
    p, q = assumptions.distribution("first", first), assumptions.distribution("second", second)
    return plain(np.abs(p - q).sum(-1) / 2)


def proportional_shift(change: Values, first_total: Values, second_total: Values, floor: Values = 0.0) -> Number:
    r"""How far :math:`q = m/\sum m` moves when estimates change (T23):
    :math:`TV \le (1-\alpha)\,\|m-m'\|_1/\max(\sum m, \sum m')`, and never above 1−α.

    ``change`` is :math:`\|m-m'\|_1`. Sharp when only one region's estimate grows from 0.

    >>> proportional_shift(1.0, first_total=4.0, second_total=5.0)
    0.2
    """
    moved, alpha = assumptions.non_negative("change", change), assumptions.closed_unit("floor", floor)
    total = np.maximum(
        assumptions.positive("first_total", first_total), assumptions.positive("second_total", second_total)
    )
    return plain((1 - alpha) * np.minimum(moved / total, 1.0))


def relative_shift(error: Values, floor: Values = 0.0) -> Number:
    r"""How far :math:`q \propto m` moves when each estimate changes by a factor within 1±``error`` (T23):
    :math:`TV \le (1-\alpha)(1-\sqrt{1-\epsilon^2})/\epsilon`, about :math:`\epsilon/2`.

    Sharp: two regions, one up and one down, in the proportion that balances them.

    >>> relative_shift(0.6)
    0.3333333333333333
    """
    eps, alpha = assumptions.unit_but_one("error", error), assumptions.closed_unit("floor", floor)
    return plain((1 - alpha) * eps / (1 + np.sqrt((1 - eps) * (1 + eps))))


def softmax_shift(change: Values, temperature: Values, floor: Values = 0.0) -> Number:
    r"""How far :math:`q \propto e^{m/T}` moves when estimates change by at most ``change`` (T23):
    :math:`TV \le (1-\alpha)\tanh\frac{\|m-m'\|_\infty}{2T}`.

    Sharp: two regions, one up and one down.

    >>> round(softmax_shift(0.1, temperature=0.5), 4)
    0.0997
    """
    moved, t = assumptions.non_negative("change", change), assumptions.positive("temperature", temperature)
    return plain((1 - assumptions.closed_unit("floor", floor)) * np.tanh(moved / (2 * t)))


# ---------------------------------------------------------------------------------------------------------- T24: regret


def allocation_regret(utility_ranges: Values, shifts: Values) -> Number:
    r"""Utility :math:`\sum_k q_kg_k` lost to estimation errors over (..., t) steps (T24):
    at most :math:`\sum_t (\max_k g - \min_k g)\,E\,TV_t`.

    ``utility_ranges`` are the ranges of the utility over regions, ``shifts`` the expected total variation between the
    allocation and the one computed from the truth (same floor): T23 converts errors into shifts. Sharp for two regions.

    >>> allocation_regret([2.0, 2.0], [0.1, 0.05])
    0.3
    """
    spread = np.atleast_1d(assumptions.non_negative("utility_ranges", utility_ranges))
    return plain((spread * assumptions.closed_unit("shifts", shifts)).sum(-1))


def expected_shift(mse: Values, total: Values) -> Number:
    r"""Expected shift of the proportional map by tracking errors (T23, T24):
    :math:`E\,TV \le \min\big(1, \sum_k\sqrt{MSE_k}/\sum_k\mu_k\big)`.

    ``mse`` is (..., K), each region's mean squared error one step ahead, from T3, T10 or T12; ``total`` is
    :math:`\sum\mu`.

    >>> round(expected_shift([0.01, 0.01], total=2.0), 6)
    0.1
    """
    error = np.sqrt(np.atleast_1d(assumptions.non_negative("mse", mse))).sum(-1)
    return plain(np.minimum(error / assumptions.positive("total", total), 1.0))


def floor_cost(utility: Values, floor: Values, base: Values | None = None) -> Number:
    r"""Utility per step that a floor costs (T24): at most :math:`\alpha(\max_k g_k - \sum_k u_kg_k)`.

    ``base`` u is 1/K each by default. Sharp against the allocation that draws the best region only.

    >>> floor_cost([0.0, 1.0], floor=0.1)
    0.05
    """
    g, alpha = assumptions.finite("utility", utility), assumptions.closed_unit("floor", floor)
    u = np.full(g.shape[-1], 1 / g.shape[-1]) if base is None else assumptions.distribution("base", base)
    return plain(alpha * (g.max(-1) - (u * g).sum(-1)))
