r"""Errors with high probability (T16).

A radius is a bias, :math:`w_0|e_0| + D\,lag`, plus a noise term; the bias holds on every path, so all of these allow
drift that depends on past noise. The weights must not depend on the noise: visits at every step, or fixed in advance.
If visits depend on the noise use :func:`radius_adaptive_visits` or :func:`radius_self_normalised`.
``delta`` is the probability of failure; with ``times`` and ``regions``, of any failure among that many.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from theory import assumptions
from theory.assumptions import Array, Number, Values, plain
from theory.bounds import _numerics
from theory.bounds.linear import Certified, _read

Objective = Callable[[Array, Array, Array], Array]
"""A function of Ψ(θ), θ and the given number."""


def radius_sub_gaussian(
    certificate: Certified,
    sigma: Values,
    drift: Values,
    delta: Values,
    initial: Values = 0.0,
    times: Values = 1,
    regions: Values = 1,
) -> Number:
    r"""With probability 1−δ the error is below :math:`bias + s\sqrt{2\,noise\,\ln(2TK/\delta)}` (T16-1).

    Noise sub-Gaussian with ``sigma``, given the past: Gaussian noise, or noise in an interval of length 2s (Hoeffding).
    Finite variance does not suffice: for heavy tails use :func:`radius_chebyshev`.

    >>> from theory.bounds import ema_profile
    >>> round(radius_sub_gaussian(ema_profile(0.1), sigma=1.0, drift=0.0, delta=0.05), 3)
    0.623
    """
    s = assumptions.non_negative("sigma", sigma)
    _, _, noise = _read(certificate)
    log_term = _log_term(delta, times, regions)
    return plain(_bias(certificate, drift, initial) + s * np.sqrt(2 * noise * log_term))


def radius_bounded(
    certificate: Certified,
    interval: Values,
    drift: Values,
    delta: Values,
    initial: Values = 0.0,
    times: Values = 1,
    regions: Values = 1,
) -> Number:
    """With probability 1−δ, for noise within an ``interval`` of length R (T16-1, Hoeffding): sub-Gaussian with R/2."""
    half = assumptions.non_negative("interval", interval) / 2
    return radius_sub_gaussian(certificate, half, drift, delta, initial, times, regions)


def radius_chebyshev(
    certificate: Certified,
    sigma: Values,
    drift: Values,
    delta: Values,
    initial: Values = 0.0,
    times: Values = 1,
    regions: Values = 1,
) -> Number:
    r"""With probability 1−δ the error is below :math:`bias + s\sqrt{noise\cdot TK/\delta}` (T16-1, Chebyshev).

    Needs only the variance, so it holds for heavy tails. Sharp for noise that is 0 except for rare shocks.

    >>> from theory.bounds import window_profile
    >>> radius_chebyshev(window_profile(4), sigma=1.0, drift=0.0, delta=0.25)
    1.0
    """
    s = assumptions.non_negative("sigma", sigma)
    _, _, noise = _read(certificate)
    many = _union(times, regions) / assumptions.open_unit("delta", delta)
    return plain(_bias(certificate, drift, initial) + s * np.sqrt(noise * many))


def radius_bernstein(
    certificate: Certified,
    sigma: Values,
    largest_noise: Values,
    drift: Values,
    delta: Values,
    initial: Values = 0.0,
    largest_weight: Values | None = None,
    times: Values = 1,
    regions: Values = 1,
) -> Number:
    r"""With probability 1−δ, for noise of variance at most s² and at most R in size (T16-2, Bernstein and Freedman):

    .. math:: bias + A + \sqrt{A^2 + 2s^2\,noise\,l}, \qquad A = \tfrac13 w_{max}R\,l,\quad l = \ln\tfrac{2TK}{\delta}

    ``largest_noise`` is R; ``largest_weight`` that of a single observation: b for an EMA, 1/W for a
    window; by default :math:`\sqrt{noise}`, which is never smaller. Better than :func:`radius_bounded` if the
    noise is mostly small.

    >>> from theory.bounds import ema_profile
    >>> args = dict(sigma=0.1, largest_noise=1.0, drift=0.0, delta=0.05)
    >>> round(radius_bernstein(ema_profile(0.01), **args, largest_weight=0.01), 4)
    0.0351
    """
    s, size = assumptions.non_negative("sigma", sigma), assumptions.non_negative("largest_noise", largest_noise)
    _, _, noise = _read(certificate)
    weight = np.sqrt(noise) if largest_weight is None else assumptions.closed_unit("largest_weight", largest_weight)
    log_term = _log_term(delta, times, regions)
    a = weight * size * log_term / 3
    return plain(_bias(certificate, drift, initial) + a + np.sqrt(a**2 + 2 * s**2 * noise * log_term))


def radius_uniform(
    rate: Values,
    sigma: Values,
    drift: Values,
    delta: Values,
    steps: Values,
    regions: Values = 1,
    initial: Values = 0.0,
    block: Values | None = None,
) -> Number:
    r"""With probability 1−δ the errors of K EMAs stay below this at all steps t ≤ T = ``steps`` at once (T16-3):

    .. math:: |e_0| + D\tfrac{1-b}{b} + (1-b)^{-(h-1)} s\sqrt{\tfrac{2b}{2-b}\ln\frac{2\lceil T/h\rceil K}{\delta}}

    for any whole ``block`` h ≥ 1; by default a good one is searched. h = 1 is the union bound over steps. For an EMA
    with constant rate b and sub-Gaussian noise; a bias-corrected one has :math:`1/(1-(1-b)^t)` times the noise term.

    >>> round(radius_uniform(0.01, sigma=1.0, drift=0.0, delta=0.05, steps=4000), 3)
    0.336
    >>> round(radius_uniform(0.01, sigma=1.0, drift=0.0, delta=0.05, steps=4000, block=1), 3)
    0.347
    """
    b, s = assumptions.half_open_unit("rate", rate), assumptions.non_negative("sigma", sigma)
    d, e0 = assumptions.non_negative("drift", drift), assumptions.non_negative("initial", initial)
    t, k = assumptions.whole("steps", steps, least=1), assumptions.whole("regions", regions, least=1)
    failure = assumptions.open_unit("delta", delta)
    if block is None:
        # Around the optimum 1/(2b ln(2TK/δ)) of a smooth T/h, in steps of a few percent.
        around = 1 / (2 * b * np.log(2 * t * k / failure))
        blocks = np.rint(around[..., None] * np.geomspace(0.25, 8.0, 80))
        h = np.clip(np.concatenate([np.ones_like(blocks[..., :1]), blocks], -1), 1.0, t[..., None])
    else:
        h = assumptions.whole("block", block, least=1)[..., None]
    b, s, t, k, failure = (x[..., None] for x in (b, s, t, k, failure))
    noise = _grow(b, h) * s * np.sqrt(2 * b / (2 - b) * np.log(2 * np.ceil(t / h) * k / failure))
    return plain(e0 + d * (1 - b[..., 0]) / b[..., 0] + noise.min(-1))


def _grow(b: Array, h: Array) -> Array:
    """(1-b)^-(h-1), with 1 at h = 1 even where b = 1."""
    with np.errstate(invalid="ignore"):
        exponent = np.where(h == 1, 0.0, -_numerics.log_keep(b) * (h - 1))
    return np.exp(np.minimum(exponent, 700.0))


def radius_adaptive_visits(
    certificate: Certified,
    sigma: Values,
    drift: Values,
    delta: Values,
    steps: Values,
    initial: Values = 0.0,
    regions: Values = 1,
) -> Number:
    r"""With probability 1−δ at step t = ``steps``, where visits depend on past noise (T16-4): ln(2tK/δ) for ln(2K/δ).

    The number of visits so far is then random and may depend on the noise; this is the union bound over all its values,
    for trackers whose weights depend on the number of visits only (EMA, window; one observation or a fixed batch a
    visit). The bound for a fixed step is exceeded more often than δ under selective visits.
    """
    t = assumptions.whole("steps", steps, least=1)
    return radius_sub_gaussian(certificate, sigma, drift, delta, initial, times=t, regions=regions)


def radius_self_normalised(
    count: Values,
    square: Values,
    lag: Values,
    sigma: Values,
    drift: Values,
    delta: Values,
    prior: Values,
    times: Values = 1,
    regions: Values = 1,
) -> Number:
    r"""With probability 1−δ at a fixed step, for any visits that depend on the past (T16-6):

    .. math:: D\,L + \frac sN\sqrt{(N_2+c)\ln\frac{N_2+c}{c\,\delta^2}}

    The radius of the shipped UCB trackers. All observable: ``count`` N the weighted count :math:`\sum\gamma^{age}`,
    ``square`` :math:`N_2 = \sum\gamma^{2\,age}`, ``lag`` L the weighted mean age. ``prior`` c > 0 is a constant chosen
    in advance; good values are .05/(1−γ²) and, for a window of W steps, W/10. Sub-Gaussian noise. inf for a region that
    was never visited.

    >>> round(radius_self_normalised(10.0, 10.0, 4.5, sigma=1.0, drift=0.01, delta=0.05, prior=1.0), 3)
    1.006
    """
    n, n2 = assumptions.non_negative("count", count), assumptions.non_negative("square", square)
    bias = assumptions.non_negative("drift", drift) * assumptions.non_negative("lag", lag)
    s, c = assumptions.non_negative("sigma", sigma), assumptions.positive("prior", prior)
    failure = assumptions.open_unit("delta", delta) / _union(times, regions)
    spread = s * np.sqrt((n2 + c) * (np.log1p(n2 / c) - 2 * np.log(failure)))
    known = n > 0
    return plain(np.where(known, bias + spread / np.where(known, n, 1.0), np.inf))


# -------------------------------------------------------------------------------------------------- T16-5: the lag


def lag_quantile(rate: Values, visit_rate: Values, delta: Values) -> Number:
    r"""Lag of an EMA with random visits that is not exceeded with probability 1−δ (T16-5).

    .. math:: \min_\theta \frac{\Psi(\theta) + \ln(1/\delta)}{\theta}, \qquad
              e^\Psi = E e^{\theta A}\prod_{i\ge1} E e^{\theta a^i G}

    The lag is :math:`A + \sum_i a^i G_i` with independent geometric gaps G and age A = G−1. Visits with probability
    at least q = ``visit_rate``, not depending on the noise. About 1.3 times the true quantile.

    >>> lag_quantile(0.5, 1.0, 0.01)  # visited at every step: the lag itself
    1.0
    """
    b, q = assumptions.half_open_unit("rate", rate), assumptions.half_open_unit("visit_rate", visit_rate)
    return plain(_lag_search(b, q, -np.log(assumptions.open_unit("delta", delta)), _quantile_at))


def lag_tail(rate: Values, visit_rate: Values, lag: Values) -> Number:
    r"""Probability that the lag of an EMA with random visits exceeds ``lag`` x (T16-5):
    at most :math:`\min_\theta e^{\Psi(\theta)-\theta x}`; see :func:`lag_quantile`.

    >>> lag_tail(1.0, 0.5, 10.0) < 0.5**10 * 20  # the age of the last visit
    True
    """
    b, q = assumptions.half_open_unit("rate", rate), assumptions.half_open_unit("visit_rate", visit_rate)
    x = assumptions.non_negative("lag", lag)
    b, q, x = np.broadcast_arrays(b, q, x)
    every = q == 1
    exponent = _lag_search(b, np.where(every, 0.5, q), x, lambda psi, theta, given: psi - theta * given)
    return plain(np.where(every, (x < (1 - b) / b).astype(np.float64), np.exp(np.minimum(exponent, 0.0))))


def lag_from_longest_gap(
    rate: Values, visit_rate: Values, delta: Values, steps: Values = 1, regions: Values = 1
) -> Number:
    r"""The elementary bound of the lag, at all steps at once (T16-5): all gaps at most
    :math:`g = \lceil\ln(TK/\delta)/-\ln(1-q)\rceil`, so the lag at most g/b − 1. Much looser than :func:`lag_quantile`.

    >>> lag_from_longest_gap(0.5, 0.5, delta=0.01)  # 7 steps without a visit have probability 1/128
    13.0
    """
    b, q = assumptions.half_open_unit("rate", rate), assumptions.half_open_unit("visit_rate", visit_rate)
    many = _union(steps, regions) / assumptions.open_unit("delta", delta)
    gap = np.maximum(np.ceil(np.log(many) / -_numerics.log_keep(q)), 1.0)
    return plain(gap / b - 1)


def _quantile_at(psi: Array, theta: Array, log_odds: Array) -> Array:
    return (psi + log_odds) / theta


def _lag_search(b: Array, q: Array, given: Array, objective: Objective) -> Array:
    """The least ``objective(psi, theta, given)`` over theta: each is a bound, so the search need not be exact."""
    b, q, given = np.broadcast_arrays(b, q, given)
    every = q == 1
    largest = -_numerics.log_keep(np.where(every, 0.5, q))  # θ < -ln(1-q)
    low, high = np.full_like(largest, -40.0), np.full_like(largest, 36.0)  # θ = largest / (1 + e^-x)
    safe = np.where(every, 0.5, q)

    def value(x: Array) -> Array:
        theta = largest / (1 + np.exp(-x))
        return objective(_log_moment(b, safe, theta), theta, given)

    for _ in range(80):  # both objectives have one minimum
        third = (high - low) / 3
        left = value(low + third) < value(high - third)
        low, high = np.where(left, low, low + third), np.where(left, high - third, high)
    return np.where(every, (1 - b) / b, value((low + high) / 2))


EXACT_TERMS = 64


def _log_moment(b: Array, q: Array, theta: Array) -> Array:
    """Ψ: ln E e^{θA} + Σ ln E e^{θaⁱG}; terms beyond 64 by an integral that bounds their sum (they are convex in i)."""

    def gap(u: Array) -> Array:  # ln E e^{uG} = -ln(1 - (1-e^-u)/q)
        return -np.log1p(np.maximum(np.expm1(-u) / q, -1 + 1e-16))

    log_a = _numerics.log_keep(b)
    total = gap(theta) - theta
    for i in range(1, EXACT_TERMS + 1):
        total = total + gap(theta * np.exp(i * log_a))
    # ∫ gap(θaⁱ) di from 64.5 on = (1/-ln a) ∫ gap(u)/u du from 0 to θa^64.5
    end = theta * np.exp((EXACT_TERMS + 0.5) * log_a)
    nodes, weights = _numerics.legendre(40)
    u = end[..., None] * (nodes + 1) / 2
    q_ = q[..., None]
    slope = np.where(u > 1e-300, -np.log1p(np.expm1(-u) / q_) / np.where(u > 1e-300, u, 1.0), 1 / q_)
    with np.errstate(invalid="ignore"):
        rest = np.where(b == 1, 0.0, (slope * weights).sum(-1) / 2 * end / -log_a)
    return np.asarray(total + rest, dtype=np.float64)


# ------------------------------------------------------------------------------------------------------- common parts


def _bias(certificate: Certified, drift: Values, initial: Values) -> Array:
    start, lag, _ = _read(certificate)
    e0, d = assumptions.non_negative("initial", initial), assumptions.non_negative("drift", drift)
    return start * e0 + d * lag


def _union(times: Values, regions: Values) -> Array:
    return assumptions.whole("times", times, least=1) * assumptions.whole("regions", regions, least=1)


def _log_term(delta: Values, times: Values, regions: Values) -> Array:
    return np.log(2 * _union(times, regions) / assumptions.open_unit("delta", delta))
