r"""The exponential moving average :math:`m \leftarrow m + b(\bar y - m)`, observed at every step (T3, T4)."""

from __future__ import annotations

import numpy as np

from aria import checks
from theory import assumptions
from theory.assumptions import Array, Number, Values, plain
from theory.bounds import _numerics
from theory.bounds.linear import ema_profile, mse, mse_random_walk

LINE_CONSTANT = 3 * 2 ** (-4 / 3)
"""1.1906: best oblivious mean squared error over s^(4/3) D^(2/3), as D/s → 0; the same for EMA and window."""
ADAPTIVE_CONSTANT = 2 ** (2 / 3)
"""1.5874: the same for adaptive drift."""
PRICE_OF_ADAPTIVITY = 4 / 3
"""Largest factor by which adaptive drift increases the error of an EMA, for any rate, drift and noise."""


def ema_mse(
    rate: Values,
    sigma: Values,
    drift: Values,
    steps: Values = np.inf,
    initial: Values = 0.0,
    batch: Values = 1,
    when: str = "now",
    adaptive: bool = True,
) -> Number:
    r"""Mean squared error of an EMA (T3-A; with ``adaptive=False`` T3-O).

    .. math:: c^2, \quad c = \frac{a^2 D + \sqrt{a^2D^2 + \kappa b^2s^2/n}}{\kappa}, \quad \kappa = b(2-b)
              \qquad\text{adaptive, settled}

    .. math:: \big(a^t|e_0| + D\,a(1-a^t)/b\big)^2 + \tfrac{b}{2-b}\tfrac{s^2}{n}(1-a^{2t})
              \qquad\text{oblivious}

    Before it settles, the adaptive form is the recursion of ``mse_recursion``; from 4096 steps on an upper bound of
    it, at most T1-A. ``when="next"`` is the error one step later, before
    the observation. The oblivious form is sharp on a line with noise of variance s²; the adaptive one against drift
    −D·sign(e) with two-point noise, where the oblivious form is exceeded by up to 4/3.

    >>> round(ema_mse(0.1, sigma=1.0, drift=0.01), 5), round(ema_mse(0.1, sigma=1.0, drift=0.01, adaptive=False), 5)
    (0.07667, 0.06073)
    """
    checks.one_of("when", when, ["now", "next"])
    b, t = assumptions.half_open_unit("rate", rate), assumptions.whole_or_inf("steps", steps)
    s, d = assumptions.non_negative("sigma", sigma), assumptions.non_negative("drift", drift)
    n, e0 = assumptions.at_least_one("batch", batch), assumptions.non_negative("initial", initial)
    if not adaptive:
        return mse(ema_profile(b, t, n), s, d, e0, when, adaptive=False)
    kappa = b * (2 - b)
    v = _numerics.norm_recursion(kappa, b**2 * s**2 / n, d, e0, t, 2 * _numerics.log_keep(b))
    v = np.minimum(v, np.sqrt(mse(ema_profile(b, t, n), s, d, e0, adaptive=True)))
    return plain((v + d * (when == "next")) ** 2)


def ema_mse_random_walk(rate: Values, sigma: Values, step: Values, batch: Values = 1) -> Number:
    r"""Settled mean squared error of an EMA on a random walk, exactly (T3): :math:`(a^2\tau^2 + b^2s^2/n)/(b(2-b))`.

    Steps of standard deviation ``step`` (:math:`\tau`), uncorrelated and independent of the noise.

    >>> ema_mse_random_walk(0.5, sigma=1.0, step=1.0)
    0.6666666666666666
    """
    return mse_random_walk(ema_profile(rate, batch=batch), sigma, step)


def price_of_adaptivity(rate: Values, sigma: Values, drift: Values, batch: Values = 1) -> Number:
    """Factor by which adaptive drift increases the error of a settled EMA: T3-A over T3-O, always from 1 to 4/3.

    Sharp: 4/3 is approached for small rates if the squared bias is half the variance, which is the case at the
    oblivious optimum. Noise or drift must be positive.

    >>> round(price_of_adaptivity(ema_best_rate(1.0, 1e-6, adaptive=False), sigma=1.0, drift=1e-6), 3)
    1.333
    """
    worst = np.asarray(ema_mse(rate, sigma, drift, batch=batch))
    fixed = np.asarray(ema_mse(rate, sigma, drift, batch=batch, adaptive=False))
    return plain(worst / np.where(fixed > 0, fixed, np.nan))


def ema_best_rate(sigma: Values, drift: Values, batch: Values = 1, when: str = "now", adaptive: bool = True) -> Number:
    r"""The rate with the least settled mean squared error (T4), with :math:`\rho = D\sqrt n/s`.

    Adaptive, for both now and next: the root of :math:`\rho = \sqrt b\,(1/\sqrt{1-b} - 1)`, that is
    :math:`b = \sin^2\theta` where :math:`\tan\theta - \sin\theta = \rho`; there the bound is :math:`b\,s^2/n`.
    Oblivious: the root of :math:`b^3 = \rho^2(1-b)(2-b)^2`, or for ``when="next"`` of :math:`b^3 = \rho^2(2-b)^2`,
    at most 1. All are about :math:`(2\rho)^{2/3}` for small :math:`\rho`. Without drift the rate is 0 (average
    everything), without noise 1.

    >>> round(ema_best_rate(sigma=1.0, drift=0.05, adaptive=False), 5)
    0.18817
    """
    checks.one_of("when", when, ["now", "next"])
    rho = _rho(sigma, drift, batch)
    with np.errstate(divide="ignore"):
        log_rho = np.log(rho)

    def excess(u: Array, b: Array) -> Array:
        free = np.log(-np.expm1(u))  # ln(1-b)
        if adaptive:
            return np.asarray((u - free) / 2 + u - np.log1p(np.exp(free / 2)) - log_rho)
        return np.asarray(3 * u - 2 * log_rho - 2 * np.log(2 - b) - (0.0 if when == "next" else free))

    return plain(np.where(rho == 0, 0.0, _numerics.solve_rate(excess, rho)))


def ema_best_mse(sigma: Values, drift: Values, batch: Values = 1, when: str = "now", adaptive: bool = True) -> Number:
    """The least settled mean squared error of any EMA (T4): that at :func:`ema_best_rate`; 0 without drift.

    >>> round(ema_best_mse(sigma=1.0, drift=0.05, adaptive=False), 5)
    0.15039
    """
    rate = np.asarray(ema_best_rate(sigma, drift, batch, when, adaptive))
    best = ema_mse(np.where(rate == 0, 1.0, rate), sigma, drift, batch=batch, when=when, adaptive=adaptive)
    return plain(np.where(rate == 0, 0.0, best))


def ema_small_drift_rate(sigma: Values, drift: Values, batch: Values = 1) -> Number:
    r"""The best rate for small drift (T4): :math:`(2\rho)^{2/3}`, adaptive or not; :math:`\rho = D\sqrt n/s`."""
    return plain((2 * _rho(sigma, drift, batch)) ** (2 / 3))


def ema_small_drift_mse(sigma: Values, drift: Values, batch: Values = 1, adaptive: bool = True) -> Number:
    r"""The best mean squared error for small drift (T4): :math:`C\,(s^2/n)^{2/3}D^{2/3}`.

    C is 2^(2/3) = 1.5874, or 3·2^(-4/3) = 1.1906 for oblivious drift. An asymptote as D/s → 0, not a bound.
    """
    s, d = assumptions.non_negative("sigma", sigma), assumptions.non_negative("drift", drift)
    n = assumptions.at_least_one("batch", batch)
    return plain((ADAPTIVE_CONSTANT if adaptive else LINE_CONSTANT) * (s**2 / n * d) ** (2 / 3))


def off_optimum_loss(factor: Values) -> Number:
    r"""Relative error at a rate of ``factor`` x times the best (T4): :math:`(x^{-2} + 2x)/3` for small oblivious drift.

    A grid of rates with ratio 2 therefore loses less than 14 %.

    >>> round(off_optimum_loss(2.0), 3), round(off_optimum_loss(0.5), 3)
    (1.417, 1.667)
    """
    x = assumptions.positive("factor", factor)
    return plain((x**-2.0 + 2 * x) / 3)


def _rho(sigma: Values, drift: Values, batch: Values) -> Array:
    s, d = assumptions.non_negative("sigma", sigma), assumptions.non_negative("drift", drift)
    return _numerics.ratio(d, s / np.sqrt(assumptions.at_least_one("batch", batch)))
