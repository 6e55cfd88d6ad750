"""The self-tuning bank of averages, and estimates of the noise from the data (T9)."""

from __future__ import annotations

import numpy as np

from theory import assumptions
from theory.assumptions import Number, Values, plain
from theory.bounds import _numerics


def bank_regret(interval: Values, experts: Values) -> Number:
    r"""Excess squared error of a mixture over its best expert, in total (T9): at most :math:`2R^2\ln N`.

    .. math:: \sum_t \gamma^{T-t} E(m_t-\mu_t)^2 \le \min_i \sum_t \gamma^{T-t} E(m_{i,t}-\mu_t)^2 + 2R^2\ln N

    for weights :math:`\propto \exp(-\gamma L_i/(2R^2))` of the discounted prediction losses :math:`L_i`, observations
    and experts within an ``interval`` of length R, any discount up to 1 and any drift, adaptive included. The shipped
    ``Bank`` sets its learning rate from the data instead and is not covered by the theorem.

    >>> round(bank_regret(interval=1.0, experts=9), 3)
    4.394
    """
    length, count = assumptions.non_negative("interval", interval), assumptions.whole("experts", experts, least=1)
    return plain(2 * length**2 * np.log(count))


def bank_mean_regret(interval: Values, experts: Values, forget: Values = 0.0, steps: Values = np.inf) -> Number:
    r"""The same bound as a weighted mean over the visits (T9): :math:`2R^2\ln N / \sum_{j<T}\gamma^j`.

    With γ = 1 − ``forget``; after many visits :math:`2\lambda R^2\ln N` for ``forget`` :math:`\lambda`.

    >>> round(bank_mean_regret(interval=1.0, experts=9, forget=0.005), 5)
    0.02197
    """
    lam, t = assumptions.unit_but_one("forget", forget), assumptions.whole_or_inf("steps", steps, least=1)
    lam, t = np.broadcast_arrays(lam, t)
    fades = lam > 0
    gone = _numerics.one_minus_power(np.log1p(-np.where(fades, lam, 0.5)), t)
    return plain(np.asarray(bank_regret(interval, experts)) * np.where(fades, lam / gone, 1 / t))


def rice_range(sigma: Values, drift: Values, adaptive: bool = True) -> tuple[Number, Number]:
    r"""Range of half the mean squared first difference :math:`\tfrac12E(y_t-y_{t-1})^2` (RICE).

    .. math:: \tfrac12\big[s^2 + (s-D)_+^2\big] \ \text{to}\ \tfrac12\big[s^2 + (s+D)^2\big] \ \text{adaptive},\qquad
              s^2 \ \text{to}\ s^2 + \tfrac12D^2 \ \text{oblivious}

    One observation per step, noise of variance exactly s². Oblivious, a constant target attains the lower end and a
    line the upper one; adaptive, drift toward the last noise, or away from it, attains them if that noise is ±s.

    >>> rice_range(sigma=1.0, drift=0.2, adaptive=False)
    (1.0, 1.02)
    >>> rice_range(sigma=1.0, drift=0.2)
    (0.82, 1.22)
    """
    s, d = assumptions.non_negative("sigma", sigma), assumptions.non_negative("drift", drift)
    if adaptive:
        return plain((s**2 + np.maximum(s - d, 0.0) ** 2) / 2), plain((s**2 + (s + d) ** 2) / 2)
    return plain(s**2 + 0.0 * d), plain(s**2 + d**2 / 2)


def rice_variance(observations: Values, order: int = 1) -> Number:
    """Noise variance estimated from differences of (..., t) observations in order of time (RICE).

    ``order=1``: half the mean squared difference, whose expectation lies in :func:`rice_range`. ``order=2``: a sixth of
    the mean squared second difference, whose expectation is exactly s² on a line of any slope.

    >>> rice_variance([0.0, 3.0, 6.0, 9.0], order=2)
    0.0
    """
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}")
    y = assumptions.finite("observations", observations)
    if y.ndim == 0 or y.shape[-1] <= order:
        raise ValueError(f"observations must hold more than {order} along the last axis, got shape {y.shape}")
    return plain((np.diff(y, n=order, axis=-1) ** 2).mean(-1) / (2 if order == 1 else 6))
