r"""The best tracker of a random walk, and the tracker that computes its gain from its own certificate (T7, T8)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from theory import assumptions
from theory.assumptions import Array, Number, Values, plain
from theory.bounds import _numerics
from theory.bounds.ema import ema_mse


class Steady(NamedTuple):
    """A settled Kalman filter."""

    gain: Number
    """K, which is also the rate of the equivalent EMA."""
    posterior: Number
    """Mean squared error just after an observation."""
    predicted: Number
    """Mean squared error just before the next."""
    innovation: Number
    """Variance of an observation around its prediction."""


class Reading(NamedTuple):
    """Noise and drift inferred from a tracker that tuned itself."""

    sigma: Number
    drift: Number


def kalman_steady(sigma: Values, step: Values, batch: Values = 1) -> Steady:
    r"""Settled Kalman filter of a random walk with steps of standard deviation ``step`` (:math:`\tau`), exactly (T7):

    .. math:: K = \tfrac12\big(-\lambda + \sqrt{\lambda^2+4\lambda}\big),\ \lambda = \frac{\tau^2 n}{s^2}; \qquad
              P = \frac{K s^2}{n},\quad P_{pred} = P + \tau^2,\quad S = P_{pred} + \frac{s^2}{n}

    The EMA of rate K attains P, and no linear tracker is better (for Gaussian noise and steps, no tracker at all).
    ``sigma`` and ``step`` must not both be 0.

    >>> kalman_steady(sigma=1.0, step=1.0).gain
    0.618033988749
    """
    s, tau = assumptions.non_negative("sigma", sigma), assumptions.non_negative("step", step)
    n = assumptions.at_least_one("batch", batch)
    assumptions.positive("sigma + step", s + tau)
    ratio = _numerics.ratio(tau, s / np.sqrt(n))
    with np.errstate(divide="ignore", over="ignore"):
        gain = np.where(ratio > 0, 2 / (1 + np.hypot(1.0, 2 / ratio)), 0.0)
    posterior = gain * s**2 / n
    return Steady(*(plain(x) for x in (gain, posterior, posterior + tau**2, posterior + tau**2 + s**2 / n)))


def kalman_mse(sigma: Values, step: Values, visits: Values, initial: Values = np.inf) -> Number:
    r"""Mean squared error of the Kalman filter after (..., t) ``visits``, the observations at each step (T7):

    .. math:: P_{pred} = P + \tau^2, \qquad 1/P = 1/P_{pred} + n/s^2 .

    A step with 0 observations only adds drift. ``initial`` is the variance before the first step, inf if unknown.
    Exact for a random walk with steps of standard deviation ``step``.

    >>> kalman_mse(sigma=1.0, step=0.0, visits=[1, 0, 1])
    0.5
    """
    s, tau = assumptions.positive("sigma", sigma), assumptions.non_negative("step", step)
    n = np.atleast_1d(assumptions.non_negative("visits", visits))
    information = 1 / assumptions.positive_or_inf("initial", initial)
    for count in np.moveaxis(n, -1, 0):
        information = information / (1 + tau**2 * information) + count / s**2
    known = information > 0
    return plain(np.where(known, 1 / np.where(known, information, 1.0), np.inf))


def kalman_reading(gain: Values, innovation: Values) -> Reading:
    r"""Noise and random-walk step inferred from a settled filter (T7 inverted): :math:`s^2 = (1-K)S,\ \tau^2 = K^2 S`.

    ``gain`` is K, ``innovation`` the variance S of observations around their prediction. Exact for a random walk.

    >>> steady = kalman_steady(sigma=2.0, step=0.5)
    >>> kalman_reading(steady.gain, steady.innovation)
    Reading(sigma=2.0, drift=0.5)
    """
    k, variance = assumptions.half_open_unit("gain", gain), assumptions.non_negative("innovation", innovation)
    return Reading(plain(np.sqrt((1 - k) * variance)), plain(k * np.sqrt(variance)))


def line_reading(rate: Values, innovation: Values) -> Reading:
    r"""Noise and drift inferred from the EMA that predicts a line best (T4 inverted, used with T9):

    .. math:: D = \sqrt{S b^3/(4-b)}, \qquad s = (2-b)\sqrt{S/(4-b)}

    ``rate`` is the best rate for the next observation, ``innovation`` the mean square S of observations around their
    prediction. Exact for linear drift at most as large as the noise (where the best rate is below 1). A diagnostic:
    no data can certify a bound on the drift.

    >>> reading = line_reading(0.20077, 1.17361)
    >>> round(reading.sigma, 4), round(reading.drift, 4)
    (1.0, 0.05)
    """
    b, variance = assumptions.half_open_unit("rate", rate), assumptions.non_negative("innovation", innovation)
    root = np.sqrt(variance / (4 - b))
    return Reading(plain((2 - b) * root), plain(b**1.5 * root))


def certificate_gain_rate(sigma: Values, drift: Values, batch: Values = 1) -> Number:
    r"""Gain at which the shipped ``CertificateGain`` settles if visited at every step (T8).

    The root of :math:`b^3 = 2\rho^2(1-b)(2-b)`. About :math:`(2\rho)^{2/3}` for small :math:`\rho = D\sqrt n/s`, as
    the best rate; 0 without drift, 1 without noise.

    >>> round(certificate_gain_rate(sigma=1.0, drift=0.05), 4)
    0.1938
    """
    s, d = assumptions.non_negative("sigma", sigma), assumptions.non_negative("drift", drift)
    rho = _numerics.ratio(d, s / np.sqrt(assumptions.at_least_one("batch", batch)))
    with np.errstate(divide="ignore"):
        log_target = np.log(2.0) + 2 * np.log(rho)

    def excess(u: Array, b: Array) -> Array:
        return np.asarray(3 * u - log_target - np.log(-np.expm1(u)) - np.log(2 - b))

    return plain(np.where(rho == 0, 0.0, _numerics.solve_rate(excess, rho)))


def certificate_gain_mse(
    sigma: Values, drift: Values, batch: Values = 1, when: str = "now", adaptive: bool = True
) -> Number:
    """Settled mean squared error of the shipped ``CertificateGain`` with visits at every step (T8).

    It is ``ema_mse`` at the gain. Oblivious, at most 1 % above the best EMA while D ≤ s/3, 2.1 % at D = s; 0 without
    drift.

    >>> round(certificate_gain_mse(sigma=1.0, drift=0.05, adaptive=False), 4)
    0.1506
    """
    rate = np.asarray(certificate_gain_rate(sigma, drift, batch))
    value = ema_mse(np.where(rate == 0, 1.0, rate), sigma, drift, batch=batch, when=when, adaptive=adaptive)
    return plain(np.where(rate == 0, 0.0, value))
