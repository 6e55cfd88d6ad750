r"""Exact values for an EMA of rate b that is visited at every step: references for simulations of single regimes.

Signed biases are those of :math:`E[m_t-\mu_t]`; the noise adds :math:`F(1-a^{2t})`, where
:math:`F = \frac{b}{2-b}s^2/n` and a = 1−b. All are equalities, so none has an adaptive form. Without drift and on a
line use ``ema_mse(..., adaptive=False)``, on a random walk ``ema_mse_random_walk``.
"""

from __future__ import annotations

import numpy as np

from theory import assumptions
from theory.assumptions import Number, Values, plain
from theory.bounds import _numerics


def sinusoid_drift(amplitude: Values, frequency: Values) -> Number:
    r"""Largest step of :math:`A\sin(\omega t)`: the D to compare with, :math:`2A\sin(\omega/2)`.

    ``frequency`` is in radians per step, in (0, π].

    >>> sinusoid_drift(1.0, np.pi)
    2.0
    """
    a, w = assumptions.non_negative("amplitude", amplitude), assumptions.positive("frequency", frequency)
    assumptions.at_most("frequency", w, "pi", np.asarray(np.pi))
    return plain(2 * a * np.sin(w / 2))


def sinusoid_bias(rate: Values, amplitude: Values, frequency: Values) -> Number:
    r"""Amplitude of the bias on :math:`\mu_t = A\sin(\omega t)`, settled, exactly:

    .. math:: A\,h, \qquad h = \frac{2a\sin(\omega/2)}{\sqrt{b^2 + 4a\sin^2(\omega/2)}}

    >>> round(sinusoid_bias(0.1, 1.0, 0.05), 4)
    0.4065
    """
    b = assumptions.half_open_unit("rate", rate)
    step = np.asarray(sinusoid_drift(amplitude, frequency))
    unit = np.asarray(sinusoid_drift(1.0, frequency))
    return plain((1 - b) * step / np.sqrt(b**2 + (1 - b) * unit**2))


def sinusoid_mse(rate: Values, sigma: Values, amplitude: Values, frequency: Values, batch: Values = 1) -> Number:
    r"""Mean squared error averaged over whole periods, settled, exactly: :math:`A^2h^2/2 + F`; frequency below π."""
    b, s = assumptions.half_open_unit("rate", rate), assumptions.non_negative("sigma", sigma)
    assumptions.below("frequency", assumptions.positive("frequency", frequency), "pi", np.asarray(np.pi))
    n = assumptions.at_least_one("batch", batch)
    return plain(np.asarray(sinusoid_bias(b, amplitude, frequency)) ** 2 / 2 + s**2 * b / (2 - b) / n)


def jump_mse(rate: Values, sigma: Values, jump: Values, visits: Values, batch: Values = 1) -> Number:
    r"""Mean squared error ``visits`` k observations after a jump J of a settled EMA, exactly: :math:`(Ja^k)^2 + F`.

    >>> jump_mse(0.5, sigma=0.0, jump=4.0, visits=2)
    1.0
    """
    b, s = assumptions.half_open_unit("rate", rate), assumptions.non_negative("sigma", sigma)
    j, k = assumptions.finite("jump", jump), assumptions.whole("visits", visits)
    n = assumptions.at_least_one("batch", batch)
    return plain((j * _numerics.power(_numerics.log_keep(b), k)) ** 2 + s**2 * b / (2 - b) / n)


def decay_bias(rate: Values, amplitude: Values, decay: Values, steps: Values, initial: Values = 0.0) -> Number:
    r"""Bias on :math:`\mu_t = \mu_\infty + C r^t`, exactly: :math:`a^te_0 + C(1-r)\,a\,\frac{a^t-r^t}{a-r}`.

    ``amplitude`` is C, ``decay`` r in [0, 1], ``initial`` the signed :math:`e_0`. For r = a the fraction is
    :math:`t a^{t-1}`. The estimate lags behind a falling target, so it is too high.

    >>> decay_bias(0.5, amplitude=1.0, decay=0.5, steps=2)
    0.25
    """
    b, c = assumptions.half_open_unit("rate", rate), assumptions.finite("amplitude", amplitude)
    r, t = assumptions.closed_unit("decay", decay), assumptions.whole("steps", steps)
    left = _numerics.power(_numerics.log_keep(b), t) * assumptions.finite("initial", initial)
    return plain(left + c * (1 - r) * (1 - b) * _numerics.power_gap(1 - b, r, t))


def heteroscedastic_variance(rate: Values, variances: Values) -> Number:
    r"""Variance under noise of changing size, exactly: :math:`b^2\sum_i a^{2i}s_{t-i}^2/n`.

    ``variances`` is (..., t), the newest first, of each batch mean. At most F at the largest of them.

    >>> heteroscedastic_variance(0.5, [4.0, 0.0, 16.0])
    1.25
    """
    b = assumptions.half_open_unit("rate", rate)
    v = np.atleast_1d(assumptions.non_negative("variances", variances))
    age = np.arange(v.shape[-1], dtype=np.float64)
    weights = b[..., None] ** 2 * _numerics.power(2 * _numerics.log_keep(b)[..., None], age)
    return plain((weights * v).sum(-1))
