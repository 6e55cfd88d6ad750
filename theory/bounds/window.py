"""Bias-corrected averages, windows and plain means (T5, T6, T6')."""

from __future__ import annotations

import numpy as np

from aria import checks
from theory import assumptions
from theory.assumptions import Number, Values, plain
from theory.bounds import _numerics
from theory.bounds.ema import ema_mse
from theory.bounds.linear import (
    corrected_ema_profile,
    cumulative_profile,
    mse,
    mse_random_walk,
    mse_recursion,
    window_profile,
)


def corrected_ema_mse(
    rate: Values,
    sigma: Values,
    drift: Values,
    steps: Values,
    batch: Values = 1,
    when: str = "now",
    adaptive: bool = True,
) -> Number:
    r"""Mean squared error of the bias-corrected EMA after ``steps`` visits, one per step (T5), as shipped.

    The bound of ``mse`` for ``corrected_ema_profile``; adaptive, the smaller of that and, once the gains
    :math:`b/(1-a^t)` have settled at b, of T3-A. There is no initial error. Sharp under the conditions of ``mse``.

    >>> corrected_ema_mse(0.5, sigma=1.0, drift=0.0, steps=2, adaptive=False)
    0.55555555555
    """
    checks.one_of("when", when, ["now", "next"])
    b, t = np.broadcast_arrays(
        assumptions.half_open_unit("rate", rate), assumptions.whole_or_inf("steps", steps, least=1)
    )
    bound = np.asarray(mse(corrected_ema_profile(b, t, batch), sigma, drift, when=when, adaptive=adaptive))
    if not adaptive:
        return plain(bound)
    # Once a^t < 1e-17 a gain differs from b by less than rounding; the second half of the steps forgets the first.
    log_a = _numerics.log_keep(b)
    half = np.floor(t / 2)
    young = np.asarray(mse(corrected_ema_profile(b, np.maximum(half, 1), batch), sigma, drift, adaptive=True))
    rest = np.ceil(t / 2)
    old = np.asarray(ema_mse(b, sigma, drift, rest, np.sqrt(young), batch, when, adaptive=True))
    return plain(np.where(_numerics.power(log_a, half) < 1e-17, np.minimum(bound, old), bound))


def corrected_ema_mse_recursion(
    rate: float, sigma: Values, drift: Values, steps: int, batch: Values = 1, adaptive: bool = True
) -> Number:
    """The same step by step (T5 with T3-A): the sharp adaptive bound at any step, in time proportional to ``steps``."""
    b, log_a = assumptions.half_open_unit("rate", rate), _numerics.log_keep(assumptions.half_open_unit("rate", rate))
    times = np.arange(1.0, float(assumptions.whole("steps", steps, least=1)) + 1)
    gains = np.minimum(b / _numerics.one_minus_power(log_a, times), 1.0)
    return mse_recursion(gains, sigma, drift, batch, adaptive=adaptive)


def window_mse(
    size: Values,
    sigma: Values,
    drift: Values,
    steps: Values = np.inf,
    batch: Values = 1,
    when: str = "now",
    adaptive: bool = True,
) -> Number:
    r"""Mean squared error of a mean over the last W = ``size`` observations (T6; T1-A if adaptive).

    .. math:: \big(D\tfrac{W-1}2 + \tfrac{s}{\sqrt{Wn}}\big)^2 \quad\text{adaptive},\qquad
              D^2\tfrac{(W-1)^2}4 + \tfrac{s^2}{Wn} \quad\text{oblivious, sharp on a line}

    >>> window_mse(4, sigma=1.0, drift=0.1, adaptive=False)
    0.2725
    """
    return mse(window_profile(size, steps, batch), sigma, drift, when=when, adaptive=adaptive)


def window_best_size(
    sigma: Values, drift: Values, batch: Values = 1, when: str = "now", adaptive: bool = True
) -> Number:
    r"""The best window (T6): the better of the whole numbers around the optimum; inf without drift.

    Oblivious, the optimum solves :math:`(W-1)W^2 = 2/\rho^2` (``when="next"``: :math:`(W+1)W^2`); adaptive, it is
    :math:`W = \rho^{-2/3}` — with :math:`\rho = D\sqrt n/s`.

    >>> window_best_size(sigma=1.0, drift=0.1, adaptive=False)
    6.0
    """
    checks.one_of("when", when, ["now", "next"])
    s, d = assumptions.non_negative("sigma", sigma), assumptions.non_negative("drift", drift)
    n = assumptions.at_least_one("batch", batch)
    rho = _numerics.ratio(d, s / np.sqrt(n))
    moves = rho > 0
    log_rho = np.log(np.where(moves, rho, 1.0))
    if adaptive:
        optimum = np.exp(-2 / 3 * log_rho)
    else:
        log_target = np.log(2.0) - 2 * log_rho
        sign = 1.0 if when == "now" else -1.0  # in x = 1/W: (1 ∓ x)/x³ = 2/ρ²
        optimum = 1 / _numerics.solve_rate(lambda u, x: log_target - np.log1p(-sign * x) + 3 * u, rho)
    low = np.clip(np.floor(np.where(moves, optimum, 1.0)), 1.0, 2.0**52)
    at = [np.asarray(window_mse(w, s, d, batch=n, when=when, adaptive=adaptive)) for w in (low, low + 1)]
    return plain(np.where(moves, np.where(at[0] <= at[1], low, low + 1), np.inf))


def window_best_mse(
    sigma: Values, drift: Values, batch: Values = 1, when: str = "now", adaptive: bool = True
) -> Number:
    """The least mean squared error of any window (T6): that of :func:`window_best_size`; 0 without drift.

    Oblivious, for small drift, 1.1906 s^(4/3) D^(2/3) as for an EMA; adaptive, the proven 2.25 s^(4/3) D^(2/3).
    """
    size = np.asarray(window_best_size(sigma, drift, batch, when, adaptive))
    finite = np.isfinite(size)
    best = window_mse(np.where(finite, size, 1.0), sigma, drift, batch=batch, when=when, adaptive=adaptive)
    return plain(np.where(finite, best, 0.0))


def cumulative_mse(
    steps: Values, sigma: Values, drift: Values, batch: Values = 1, when: str = "now", adaptive: bool = True
) -> Number:
    r"""Mean squared error of the mean of all observations (T6'): :math:`D^2(t-1)^2/4 + s^2/(tn)`, unbounded.

    For comparison: under steady drift it diverges quadratically. Oblivious it is sharp on a line; adaptive is T1-A.
    """
    return mse(cumulative_profile(steps, batch), sigma, drift, when=when, adaptive=adaptive)


def cumulative_mse_random_walk(steps: Values, sigma: Values, step: Values, batch: Values = 1) -> Number:
    r"""Mean squared error of the mean of all observations on a random walk, exactly (T6'):
    :math:`\tau^2(t-1)(2t-1)/(6t) + s^2/(tn)`, growing linearly."""
    return mse_random_walk(cumulative_profile(steps, batch), sigma, step)
