r"""Every linear tracker: :math:`m_t = w_0 m_0 + \sum_{j<t} w_j y_{t-j}` with weights :math:`w \ge 0` that sum to one.

The error depends on the weights through four numbers (:class:`Profile`). The target :math:`\mu_t` moves by at most
``drift`` (D) per step, the noise has mean 0 given the past and variance at most ``sigma``² (s²) per observation. The
error is :math:`e_t = m_t - \mu_t`; one step ahead of the next observation it is :math:`m_t - \mu_{t+1}`.

There are two assumptions about the drift: *adaptive*, where it may depend on past noise, as in a loop whose tracker
steers training, and *oblivious*, where the path is fixed in advance. Functions assume the first by default.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from aria import checks
from theory import assumptions
from theory.assumptions import Array, Number, Values, plain
from theory.bounds import _numerics


class Certified(Protocol):
    """The input of the bounds: a :class:`Profile`, or the ``aria.interfaces.Certificate`` of a shipped tracker."""

    @property
    def start(self) -> Any:
        """Weight of the initial value."""

    @property
    def lag(self) -> Any:
        """Mean age of the information."""

    @property
    def noise(self) -> Any:
        """Variance in units of one observation's."""


class Profile(NamedTuple):
    r"""Summary of the weights by age :math:`w_j` and their tails :math:`T_i = w_0 + \sum_{j\ge i} w_j`."""

    start: Number
    """:math:`w_0`, weight of the initial value."""
    lag: Number
    r""":math:`\sum_{i\ge1} T_i`, the mean age of the information; a drift D becomes a bias of at most D·lag."""
    noise: Number
    r""":math:`\sum_j w_j^2/n_j`, variance in units of one observation's."""
    walk: Number
    r""":math:`\sum_{i\ge1} T_i^2`, variance in units of the steps of a random walk."""


def _profile(start: Array, lag: Array, noise: Array, walk: Array) -> Profile:
    return Profile(*(plain(part) for part in np.broadcast_arrays(start, lag, noise, walk)))


def _read(certificate: Certified) -> tuple[Array, Array, Array]:
    return (
        assumptions.closed_unit("certificate.start", certificate.start),
        assumptions.non_negative("certificate.lag", certificate.lag),
        assumptions.non_negative("certificate.noise", certificate.noise),
    )


# ------------------------------------------------------------------------------------------------- T0: decomposition


def tail_sums(weights: Values, start: Values = 0.0) -> Array:
    """(..., t) T_i for i = 1..t from the (..., t) weights by age, the newest first, and the weight of the start."""
    w, w0 = assumptions.non_negative("weights", weights), assumptions.closed_unit("start", start)
    total = w.sum(-1) + w0
    if np.any(np.abs(total - 1) > 1e-9):
        raise ValueError(f"weights and start must sum to 1, got {float(np.max(total))!r}")
    after = np.flip(np.cumsum(np.flip(w, -1), -1), -1) - w  # sum of w_j over j ≥ i, at position i-1
    return np.asarray(np.maximum(after, 0.0) + w0[..., None], dtype=np.float64)


def error_parts(
    weights: Values, drifts: Values, noises: Values, initial: Values = 0.0, start: Values = 0.0
) -> tuple[Number, Number, Number]:
    r"""Decomposition of an error (T0): :math:`e_t = w_0 e_0 - \sum_i T_i d_{t-i+1} + \sum_j w_j \epsilon_{t-j}`.

    Returns the three terms. All arrays are (..., t) with the newest first: ``drifts[i]`` is the move of the target
    ``i`` steps ago, ``noises[j]`` the noise of the observation of age ``j``. An identity on every path, without
    assumptions on either.

    >>> error_parts([0.5, 0.25], drifts=[1.0, 1.0], noises=[0.0, 0.0], initial=0.0, start=0.25)
    (0.0, -0.75, 0.0)
    """
    w, w0, e0 = (
        assumptions.array("weights", weights),
        assumptions.array("start", start),
        assumptions.finite("initial", initial),
    )
    d, noise = assumptions.finite("drifts", drifts), assumptions.finite("noises", noises)
    return plain(w0 * e0), plain(-(tail_sums(w, w0) * d).sum(-1)), plain((w * noise).sum(-1))


def error_pathwise(certificate: Certified, noise: Values, drift: Values, initial: Values = 0.0) -> Number:
    r"""Largest error on a path (T1-A, pathwise): :math:`|e_t| \le w_0|e_0| + D\,lag + |N_t|`.

    ``noise`` is :math:`N_t = \sum_j w_j\epsilon_{t-j}`. Holds with certainty, even for adaptive drift. Sharp when the
    drift is always +D and neither :math:`e_0` nor :math:`N_t` is positive.
    """
    start, lag, _ = _read(certificate)
    e0, d = assumptions.non_negative("initial", initial), assumptions.non_negative("drift", drift)
    return plain(start * e0 + d * lag + np.abs(assumptions.finite("noise", noise)))


# --------------------------------------------------------------------------------------- T1, T1-A, T2: the mean square


def mse(
    certificate: Certified,
    sigma: Values,
    drift: Values,
    initial: Values = 0.0,
    when: str = "now",
    adaptive: bool = True,
) -> Number:
    r"""Mean squared error that a certificate guarantees (T1-A; with ``adaptive=False`` T1).

    .. math:: (w_0|e_0| + D\,lag + s\sqrt{noise})^2 \quad\text{adaptive},\qquad
              (w_0|e_0| + D\,lag)^2 + s^2\,noise \quad\text{oblivious}

    ``when="next"`` is the error at the following step, before it is observed: one more D of bias. ``initial`` bounds
    :math:`|e_0|`. Assumes weights that do not depend on the noise. The oblivious form is sharp when the drift is always
    +D, :math:`e_0 \le 0` and every observation has variance s²; it is false for adaptive drift. The adaptive
    form holds for any weights; for moving averages :func:`mse_recursion` and ``ema_mse`` are sharper.

    >>> import torch
    >>> from aria.statistics import one_each
    >>> from aria.trackers import Window
    >>> tracker = Window(size=2)
    >>> state = tracker.init((1,))
    >>> for y in (1.0, 2.0, 3.0):
    ...     state = tracker.update(state, one_each([y]))
    >>> mse(tracker.certificate(state), sigma=1.0, drift=0.2, adaptive=False)
    array([0.51])
    """
    checks.one_of("when", when, ["now", "next"])
    start, lag, noise = _read(certificate)
    s, d = assumptions.non_negative("sigma", sigma), assumptions.non_negative("drift", drift)
    bias = start * assumptions.non_negative("initial", initial) + d * (lag + (when == "next"))
    if adaptive:
        return plain((bias + s * np.sqrt(noise)) ** 2)
    return plain(bias**2 + s**2 * noise)


def mse_random_walk(
    profile: Profile, sigma: Values, step: Values, mean_step: Values = 0.0, initial: Values = 0.0
) -> Number:
    r"""Mean squared error on a random walk, exactly (T2): :math:`(w_0 e_0 - \bar d\,lag)^2 + \tau^2 Q + s^2\,noise`.

    The target moves by uncorrelated steps of mean ``mean_step`` and standard deviation ``step`` (:math:`\tau`),
    independent of the noise, whose variance is exactly ``sigma``². An equality, so there is no adaptive form.

    >>> mse_random_walk(window_profile(2), sigma=1.0, step=1.0)
    0.75
    """
    s, tau = assumptions.non_negative("sigma", sigma), assumptions.non_negative("step", step)
    bias = profile.start * assumptions.finite("initial", initial)
    bias = bias - assumptions.finite("mean_step", mean_step) * profile.lag
    return plain(bias**2 + tau**2 * profile.walk + s**2 * profile.noise)


# ----------------------------------------------------------------------------------- T1-C: certificates step by step


def certificate_recursion(gains: Values, batch: Values = 1) -> Profile:
    r"""Profile of :math:`m \leftarrow m + r_t(\bar y_t - m)` after (..., t) ``gains`` in [0, 1] (T1-C).

    .. math:: start \leftarrow (1-r)\,start, \quad lag \leftarrow (1-r)(lag+1), \quad
              noise \leftarrow (1-r)^2 noise + r^2/n, \quad walk \leftarrow (1-r)^2(walk+1)

    A gain of 0 is a step without a visit; ``batch`` is n at each step. Assumes gains that do not depend on the noise.
    With them :func:`mse` is sharp as stated there.

    >>> certificate_recursion([0.5, 0.5, 0.0])
    Profile(start=0.25, lag=1.75, noise=0.3125, walk=1.3125)
    """
    r, n = _gains(gains, batch)
    start = np.ones(r.shape[:-1])
    lag = noise = walk = np.zeros(r.shape[:-1])
    for gain, count in zip(np.moveaxis(r, -1, 0), np.moveaxis(n, -1, 0), strict=True):
        keep = 1 - gain
        start, lag = keep * start, keep * (lag + 1)
        noise, walk = keep**2 * noise + gain**2 / count, keep**2 * (walk + 1)
    return _profile(start, lag, noise, walk)


def mse_recursion(
    gains: Values,
    sigma: Values,
    drift: Values,
    batch: Values = 1,
    initial: Values = 0.0,
    adaptive: bool = True,
) -> Number:
    r"""Mean squared error after (..., t) ``gains`` in [0, 1] (T3-A step by step; with ``adaptive=False`` T1-C).

    .. math:: v \leftarrow \sqrt{(1-r)^2 (v+D)^2 + r^2 s^2/n} \quad\text{adaptive, } v_0 = |e_0|

    and the mean squared error is at most v². Assumes gains that do not depend on the noise. Sharp against an adversary:
    drift −D·sign(e) and two-point noise that keeps \|e\| constant. The oblivious form is that of :func:`mse`.

    >>> mse_recursion([1.0, 0.5], sigma=1.0, drift=0.1)
    0.5525
    """
    s, d = assumptions.non_negative("sigma", sigma), assumptions.non_negative("drift", drift)
    e0 = assumptions.non_negative("initial", initial)
    if not adaptive:
        return mse(certificate_recursion(gains, batch), s, d, e0, adaptive=False)
    r, n = _gains(gains, batch)
    v = e0
    for gain, count in zip(np.moveaxis(r, -1, 0), np.moveaxis(n, -1, 0), strict=True):
        v = np.hypot((1 - gain) * (v + d), gain * s / np.sqrt(count))
    return plain(v**2)


def _gains(gains: Values, batch: Values) -> tuple[Array, Array]:
    r, n = np.broadcast_arrays(assumptions.closed_unit("gains", gains), assumptions.at_least_one("batch", batch))
    if r.ndim == 0:
        raise ValueError(f"gains must have a last axis of steps, got {float(r)!r}")
    return r, n


# --------------------------------------------------------------------------------------------------- the usual weights


def profile_of_weights(weights: Values, batch: Values = 1, start: Values = 0.0) -> Profile:
    """Profile of any (..., t) weights by age, the newest first; ``batch`` is the number of observations of each.

    >>> profile_of_weights([0.5, 0.5]).lag
    0.5
    """
    w, n = assumptions.non_negative("weights", weights), assumptions.at_least_one("batch", batch)
    tails = tail_sums(w, start)
    w0 = assumptions.closed_unit("start", start)
    return _profile(w0, tails.sum(-1), (w**2 / n).sum(-1), (tails**2).sum(-1))


def ema_profile(rate: Values, steps: Values = np.inf, batch: Values = 1) -> Profile:
    r"""EMA of rate b after ``steps`` t, with a = 1−b (T1 table):

    .. math:: start = a^t,\quad lag = \tfrac{a(1-a^t)}{b},\quad noise = \tfrac{b(1-a^{2t})}{(2-b)n},\quad
              walk = \tfrac{a^2(1-a^{2t})}{b(2-b)}

    >>> ema_profile(0.5)
    Profile(start=0.0, lag=1.0, noise=0.3333333333333333, walk=0.3333333333333333)
    """
    b, t = assumptions.half_open_unit("rate", rate), assumptions.whole_or_inf("steps", steps)
    n = assumptions.at_least_one("batch", batch)
    log_a = _numerics.log_keep(b)
    gone, gone_twice = _numerics.one_minus_power(log_a, t), _numerics.one_minus_power(log_a, 2 * t)
    return _profile(
        _numerics.power(log_a, t),
        (1 - b) * gone / b,
        b / (2 - b) * gone_twice / n,
        (1 - b) ** 2 * gone_twice / (b * (2 - b)),
    )


def corrected_ema_profile(rate: Values, steps: Values, batch: Values = 1) -> Profile:
    r"""Bias-corrected EMA, equally the discounted mean with :math:`\gamma = 1-b` (T1 table, T5), as shipped:

    .. math:: start = 0,\quad lag = \tfrac ab - \tfrac{t a^t}{1-a^t},\quad
              noise = \tfrac{b}{(2-b)n}\,\tfrac{1+a^t}{1-a^t},\quad
              walk = \sum_{0<i<t} \big(\tfrac{a^i-a^t}{1-a^t}\big)^2

    Independent of the initial value, but noisier than b/(2−b) in the first steps: 1 at the first.

    >>> corrected_ema_profile(0.5, 1).noise
    1.0
    """
    b, t = assumptions.half_open_unit("rate", rate), assumptions.whole_or_inf("steps", steps, least=1)
    n = assumptions.at_least_one("batch", batch)
    b, t = np.broadcast_arrays(b, t)
    settled = ema_profile(b, batch=n)
    a, log_a, zero = 1 - b, _numerics.log_keep(b), np.zeros_like(b)
    # One step of (1, N, N², lag·N, walk·N²), where N = Σ aʲ: all terms positive, so nothing cancels for small b·t.
    rows = [
        [zero + 1, zero, zero, zero, zero],
        [zero + 1, a, zero, zero, zero],
        [zero + 1, 2 * a, a**2, zero, zero],
        [zero, a, zero, a, zero],
        [zero, zero, a**2, zero, a**2],
    ]
    matrix = np.stack([np.stack(row, -1) for row in rows], -2)
    log_diagonal = np.stack([zero, log_a, 2 * log_a, log_a, 2 * log_a], -1)
    finite = np.isfinite(t)
    sums = _numerics.matrix_power(matrix, log_diagonal, np.where(finite, t, 1.0))[..., 0]  # (..., 5)
    left, gone = _numerics.power(log_a, t), _numerics.one_minus_power(log_a, t)
    return _profile(
        zero,
        np.where(finite, sums[..., 3] / sums[..., 1], settled.lag),
        b / (2 - b) * (1 + left) / gone / n,
        np.where(finite, sums[..., 4] / sums[..., 2], settled.walk),
    )


def window_profile(size: Values, steps: Values = np.inf, batch: Values = 1) -> Profile:
    r"""Mean of the last W = ``size`` observations (T1 table): lag (W−1)/2, noise 1/(Wn), walk (W−1)(2W−1)/(6W).

    Before ``steps`` reaches the size, the mean of all observations so far.
    """
    n = assumptions.at_least_one("batch", batch)
    w = np.minimum(assumptions.whole("size", size, least=1), assumptions.whole_or_inf("steps", steps, least=1))
    return _profile(np.zeros_like(w), (w - 1) / 2, 1 / (w * n), (w - 1) * (2 - 1 / w) / 6)


def cumulative_profile(steps: Values, batch: Values = 1) -> Profile:
    """Mean of all observations (T1 table, T6'): a window as long as the past, whose lag grows without limit."""
    return window_profile(assumptions.whole("steps", steps, least=1), batch=batch)


def triangular_profile(width: Values, batch: Values = 1) -> Profile:
    r"""Weights :math:`w_j \propto (h-j)_+` for a ``width`` h > 0, not necessarily whole (T1 table, T15-lin).

    With the width that ``theory.limits.linear_limit_width`` gives, no linear tracker is better.

    >>> triangular_profile(2.0).lag  # weights 2/3, 1/3
    0.3333333333333333
    """
    h, n = assumptions.positive("width", width), assumptions.at_least_one("batch", batch)
    last = np.ceil(h) - 1  # age of the last observation with weight
    total, square, moment = triangle_sums(h)
    rest = h - last - 0.5  # the tail from age last+1-m is m·(rest + m/2) / total
    m = last
    powers = (m * (m + 1) * (2 * m + 1) / 6, (m * (m + 1) / 2) ** 2, m * (m + 1) * (2 * m + 1) * (3 * m**2 + 3 * m - 1))
    walk = rest**2 * powers[0] + rest * powers[1] + powers[2] / 120
    return _profile(np.zeros_like(h), moment / total, square / total**2 / n, walk / total**2)


def triangle_sums(width: Array, first: int = 0) -> tuple[Array, Array, Array]:
    """Sums of f, f² and j·f over ages j ≥ ``first`` (0 or 1) for f = (width − j)_+, of positive terms only."""
    whole = np.floor(width)
    part = width - whole
    m = whole - first  # f takes the values part, part + 1, …, part + m
    total = (m + 1) * (part + m / 2)
    square = (m + 1) * part**2 + part * m * (m + 1) + m * (m + 1) * (2 * m + 1) / 6
    moment = whole * (whole + 1) * (whole - 1 + 3 * part) / 6
    return np.where(m < 0, 0.0, total), np.where(m < 0, 0.0, square), moment


# --------------------------------------------------------------------------------------------------------- path length


def path_bias(weights: Values, drifts: Values, start: Values = 0.0) -> Number:
    r"""Bias of a linear tracker on a given path (PATH-1): at most :math:`\sum_i T_i |d_{t-i+1}|`, without any D.

    Arrays are (..., t), the newest first. Sharp when all drifts have one sign and :math:`e_0 = 0`.
    """
    d = assumptions.finite("drifts", drifts)
    return plain((tail_sums(weights, start) * np.abs(d)).sum(-1))


def path_mse(
    rate: Values, sigma: Values, mean_square_drift: Values, batch: Values = 1, adaptive: bool = True
) -> Number:
    r"""Time-averaged mean squared error of an EMA started without error, by the path's own drift (PATH-1):

    .. math:: \Big(\tfrac{1-b}{b}\,\Delta + \sqrt F\Big)^2 \ \text{adaptive},\qquad
              \Big(\tfrac{1-b}{b}\Big)^2\Delta^2 + F \ \text{oblivious},\qquad
              \Delta^2 = \frac1T\sum_t E\,d_t^2,\quad F = \frac{b\,s^2}{(2-b)\,n}

    so a curve that flattens has no cost in the limit. No bound on single drifts is assumed. The oblivious form
    is sharp as T·b → ∞ when the drift is constant and the noise has variance s².

    >>> path_mse(0.1, sigma=1.0, mean_square_drift=1e-4, adaptive=False)
    0.0607
    """
    b, s = assumptions.half_open_unit("rate", rate), assumptions.non_negative("sigma", sigma)
    n = assumptions.at_least_one("batch", batch)
    bias = (1 - b) / b * np.sqrt(assumptions.non_negative("mean_square_drift", mean_square_drift))
    noise = s**2 * b / (2 - b) / n
    return plain((bias + np.sqrt(noise)) ** 2 if adaptive else bias**2 + noise)
