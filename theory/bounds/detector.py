"""A detector of jumps: two averages of the same observations that should stay close."""

from __future__ import annotations

import numpy as np

from theory import assumptions
from theory.assumptions import Array, Number, Values, plain
from theory.bounds import _numerics


def detector_threshold(
    fast: Values,
    slow: Values,
    sigma: Values,
    drift: Values,
    delta: Values,
    steps: Values,
    initial: Values = 0.0,
    regions: Values = 1,
) -> Number:
    r"""With probability 1−δ two EMAs of rates ``fast`` > ``slow`` never differ by more than this up to ``steps`` T:

    .. math:: D(L_s - L_f) + s\sqrt{2v\ln(2TK/\delta)} + \max_{t\le T}(a_s^t-a_f^t)\,|e_0|, \qquad
              v = \frac{b_f}{2-b_f}+\frac{b_s}{2-b_s}-\frac{2b_fb_s}{1-a_fa_s}

    with :math:`a = 1-b`, :math:`L = a/b`, from one start that is wrong by at most ``initial``. Holds while the drift is
    at most D per step, even adaptive, and the noise sub-Gaussian with ``sigma``; a larger difference means a jump.

    >>> round(detector_threshold(0.1, 0.02, sigma=1.0, drift=0.002, delta=0.01, steps=1500), 2)
    0.93
    """
    f, s = _rates(fast, slow)
    noise, d = assumptions.non_negative("sigma", sigma), assumptions.non_negative("drift", drift)
    t, k = assumptions.whole("steps", steps, least=1), assumptions.whole("regions", regions, least=1)
    log_term = np.log(2 * t * k / assumptions.open_unit("delta", delta))
    peak = np.clip(np.asarray(detector_best_delay(f, s)), 1.0, t)
    wrong = np.asarray(detector_gap(f, s, 1.0, peak)) * assumptions.non_negative("initial", initial)
    variance = np.asarray(detector_variance(f, s))
    return plain(d * (f - s) / (f * s) + noise * np.sqrt(2 * variance * log_term) + wrong)


def detector_variance(fast: Values, slow: Values) -> Number:
    r"""Variance of the difference of two settled EMAs, in units of one observation's, exactly:

    .. math:: \sum_i (b_fa_f^i - b_sa_s^i)^2 = \frac{2(b_f-b_s)^2}{(2-b_f)(2-b_s)(b_f+b_s-b_fb_s)}

    Before they settle it is a partial sum of this.

    >>> round(detector_variance(0.1, 0.02), 4)
    0.0288
    """
    f, s = _rates(fast, slow)
    return plain(2 * (f - s) ** 2 / ((2 - f) * (2 - s) * (f + s - f * s)))


def detector_gap(fast: Values, slow: Values, jump: Values, visits: Values) -> Number:
    r"""Mean difference of the two EMAs ``visits`` k observations after a jump J, exactly: :math:`J(a_s^k-a_f^k)`.

    >>> round(detector_gap(0.1, 0.02, jump=1.0, visits=20), 3)
    0.546
    """
    f, s = _rates(fast, slow)
    j, k = assumptions.finite("jump", jump), assumptions.non_negative("visits", visits)
    log_s, log_f = _numerics.log_keep(s), _numerics.log_keep(f)
    return plain(j * _numerics.power(log_s, k) * _numerics.one_minus_power(log_f - log_s, k))


def detector_best_delay(fast: Values, slow: Values) -> Number:
    r"""Observations after a jump at which the two EMAs differ most (not whole):
    :math:`k = \ln(\ln a_s/\ln a_f)/\ln(a_f/a_s)`; 0 if the fast one has rate 1 and follows at once.

    >>> round(detector_best_delay(0.1, 0.02), 1)
    19.4
    """
    f, s = _rates(fast, slow)
    log_s, log_f = _numerics.log_keep(s), _numerics.log_keep(f)
    at_once = f == 1
    log_f = np.where(at_once, 2 * log_s, log_f)
    return plain(np.where(at_once, 0.0, np.log(log_s / log_f) / (log_f - log_s)))


def _rates(fast: Values, slow: Values) -> tuple[Array, Array]:
    f, s = assumptions.half_open_unit("fast", fast), assumptions.half_open_unit("slow", slow)
    assumptions.below("slow", s, "fast", f)
    return f, s
