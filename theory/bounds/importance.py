r"""Importance weights inside the tracker (T14).

Visits have probability at least ``visit_rate`` (q) given the past. *Importance-weighted* averages scale the
observation, :math:`m \leftarrow (1-b)m + b\,1_t y/q`; *residual* ones scale the correction,
:math:`m \leftarrow m + (b/q_t)1_t(y-m)`, as the shipped ``EMA(importance=True)`` does.
"""

from __future__ import annotations

import numpy as np

from theory import assumptions
from theory.assumptions import Number, Values, plain
from theory.bounds import _numerics
from theory.bounds.asynchronous import asynchronous_mse


def weighted_variance(rate: Values, visit_rate: Values, sigma: Values, levels: Values) -> Number:
    r"""Variance of the importance-weighted average on a path, exactly (T14 i):

    .. math:: b^2\sum_i (1-b)^{2i}\Big[\frac{s^2+\mu_{t-i}^2}{q} - \mu_{t-i}^2\Big]

    ``levels`` is the (..., t) target by age, the newest first. Its lag is that of an EMA visited every step, but the
    level itself adds :math:`(1-q)\mu^2/q`. Visits have probability exactly q, independent of everything.

    >>> weighted_variance(0.5, 0.5, sigma=0.0, levels=[1.0, 0.0])
    0.25
    """
    b, q = assumptions.half_open_unit("rate", rate), assumptions.half_open_unit("visit_rate", visit_rate)
    s, mu = assumptions.non_negative("sigma", sigma), np.atleast_1d(assumptions.finite("levels", levels))
    age = np.arange(mu.shape[-1], dtype=np.float64)
    weights = b[..., None] ** 2 * _numerics.power(2 * _numerics.log_keep(b)[..., None], age)
    return plain((weights * _weighted_noise(q[..., None], s[..., None], mu)).sum(-1))


def weighted_mse(rate: Values, visit_rate: Values, sigma: Values, level: Values) -> Number:
    r"""Settled mean squared error of the importance-weighted average of a constant target, exactly (T14 i):
    :math:`\frac{b}{2-b}\big[\frac{s^2+\mu^2}{q} - \mu^2\big]`.

    >>> weighted_mse(1.0, 0.5, sigma=1.0, level=2.0)
    6.0
    """
    b, q = assumptions.half_open_unit("rate", rate), assumptions.half_open_unit("visit_rate", visit_rate)
    s, mu = assumptions.non_negative("sigma", sigma), assumptions.finite("level", level)
    return plain(b / (2 - b) * _weighted_noise(q, s, mu))


def _weighted_noise(q: Values, s: Values, mu: Values) -> Values:
    return s**2 / q + mu**2 * (1 - q) / q


def weighted_break_even(rate: Values, visit_rate: Values, sigma: Values) -> Number:
    r"""Level above which residual weighting beats importance weighting, exactly (T14): :math:`\sqrt{b s^2/(2q-b)}`.

    It is the residual tracker's own root mean squared error. Constant target, visits with probability exactly q < 1,
    b < 2q.
    """
    return plain(np.sqrt(residual_mse(rate, visit_rate, sigma, 0.0, adaptive=True)))


def residual_mse(
    rate: Values,
    visit_rate: Values,
    sigma: Values,
    drift: Values,
    initial: Values = 0.0,
    steps: Values = np.inf,
    batch: Values = 1,
    adaptive: bool = True,
) -> Number:
    r"""Mean squared error of residual importance weighting (T14 ii; with ``adaptive=False`` T10 at rate b/q).

    .. math:: v_t^2 \le \big(1-2b+\tfrac{b^2}{q}\big)(v_{t-1}+D)^2 + \tfrac{b^2s^2}{q\,n} , \qquad
              \text{settled without drift: } \frac{b\,s^2}{(2q-b)\,n}

    for visits and drift that depend on the past, with b < 2q; the mean error then shrinks by 1−b per step, without
    selection bias. The oblivious form is for visits with probability exactly q and needs b ≤ q. Sharp without drift.

    >>> residual_mse(0.1, 0.5, sigma=3.0, drift=0.0)
    1.0
    """
    b, q = assumptions.half_open_unit("rate", rate), assumptions.half_open_unit("visit_rate", visit_rate)
    if not adaptive:
        assumptions.at_most("rate", b, "visit_rate", q)
        return asynchronous_mse(b / q, q, sigma, drift, steps, initial, batch, adaptive=False)
    assumptions.below("rate", b, "twice visit_rate", 2 * q)
    s, d = assumptions.non_negative("sigma", sigma), assumptions.non_negative("drift", drift)
    t, n = assumptions.whole_or_inf("steps", steps), assumptions.at_least_one("batch", batch)
    loss = b * (2 * q - b) / q
    noise = b**2 * s**2 / (q * n)
    e0 = assumptions.non_negative("initial", initial)
    return plain(_numerics.norm_recursion(loss, noise, d, e0, t, _numerics.log_keep(loss)) ** 2)
