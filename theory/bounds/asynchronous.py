r"""Regions that are not visited every step, and visits of random size (T10, T11, T12).

At each step the region is visited with probability at least ``visit_rate`` (q) given the past, independently of that
step's noise; the EMA of rate b is updated on visits only. Drift D is per step, so with a visit every 1/q steps it is
D/q per visit. Noise does not depend on q: pass ``batch`` n for visits with several observations.
"""

from __future__ import annotations

import numpy as np

from aria import checks
from theory import assumptions
from theory.assumptions import Array, Number, Values, plain
from theory.bounds import _numerics
from theory.bounds._numerics import matrix_power


def asynchronous_mse(
    rate: Values,
    visit_rate: Values,
    sigma: Values,
    drift: Values,
    steps: Values = np.inf,
    initial: Values = 0.0,
    batch: Values = 1,
    when: str = "now",
    adaptive: bool = True,
) -> Number:
    r"""Mean squared error of an EMA updated on visits only (T12; with ``adaptive=False`` T10).

    Adaptive: visits and drift may both depend on past noise. With :math:`v_t = \sqrt{E e_t^2}`,
    :math:`\kappa = b(2-b)`,

    .. math:: v_t^2 \le (1-q\kappa)(v_{t-1}+D)^2 + b^2s^2/n , \qquad\text{settled without drift: } F/q,
              \quad F = \tfrac{b\,s^2}{(2-b)\,n}

    Oblivious (visits may depend on past visits), settled:

    .. math:: D^2\,\tfrac{(1-qb)^2}{(bq)^2} + \tfrac{D^2(1-q)}{q^2\kappa} + F

    with numerator 1 in the first term for ``when="next"``, before the next observation; and
    :math:`\frac{D^2a^2}{(bq)^2} + \frac{D^2(1-q)a^2}{q^2\kappa} + F` for ``when="visit"``, just after a visit (settled
    and oblivious only). Before it settles the exact moments are returned.

    The oblivious form is sharp for visits with probability exactly q, steady drift, noise of variance s² and
    :math:`e_0` against the drift. F/q is sharp too, for rare shocks and visits only while the error is small. Both
    together are an upper bound that is loose for small q: if regions drift only through training use
    ``coupled_drift_mse``.

    >>> round(asynchronous_mse(0.1, 0.5, sigma=1.0, drift=0.01, adaptive=False), 4)
    0.0898
    >>> round(asynchronous_mse(0.1, 0.5, sigma=1.0, drift=0.0), 4), round(0.1 / 1.9 / 0.5, 4)
    (0.1053, 0.1053)
    """
    checks.one_of("when", when, ["now", "next", "visit"])
    b, q = assumptions.half_open_unit("rate", rate), assumptions.half_open_unit("visit_rate", visit_rate)
    s, d = assumptions.non_negative("sigma", sigma), assumptions.non_negative("drift", drift)
    t, n = assumptions.whole_or_inf("steps", steps), assumptions.at_least_one("batch", batch)
    e0 = assumptions.non_negative("initial", initial)
    b, q, s, d, t, n, e0 = np.broadcast_arrays(b, q, s, d, t, n, e0)
    kappa = b * (2 - b)
    if when == "visit" and (adaptive or np.any(np.isfinite(t))):
        raise ValueError("when='visit' has a settled oblivious form only: write adaptive=False and leave steps out")
    if adaptive:
        log_shrink = _numerics.log_keep(q * kappa)
        v = _numerics.norm_recursion(q * kappa, b**2 * s**2 / n, d, e0, t, log_shrink)
        return plain((v + d * (when == "next")) ** 2)
    moving = {"now": 1 - q * b, "next": np.ones_like(b), "visit": 1 - b}[when]
    gaps = (1 - q) / (q**2 * kappa) * ((1 - b) ** 2 if when == "visit" else 1.0)
    settled = d**2 * ((moving / (b * q)) ** 2 + gaps) + s**2 * b / (2 - b) / n
    if not np.any(np.isfinite(t)):
        return plain(settled)
    lag, square = _moments(b, q, s**2 / n, d, np.where(np.isfinite(t), t, 0.0), e0)
    young = square + (2 * d * lag + d**2) * (when == "next")
    return plain(np.where(np.isfinite(t), young, settled))


def _moments(b: Array, q: Array, variance: Array, d: Array, t: Array, e0: Array) -> tuple[Array, Array]:
    """Mean and mean square of the error against a steady drift, with visits of probability q, by their recursion."""
    zero, kappa = np.zeros_like(b), b * (2 - b)
    x, y = 1 - q * b, 1 - q * kappa
    rows = [
        [zero + 1, zero, zero],
        [x * d, x, zero],
        [y * d**2 + q * b**2 * variance, 2 * d * y, y],
    ]
    matrix = np.stack([np.stack(row, -1) for row in rows], -2)
    log_diagonal = np.stack([zero, _numerics.log_keep(q * b), _numerics.log_keep(q * kappa)], -1)
    after = matrix_power(matrix, log_diagonal, t) @ np.stack([zero + 1, e0, e0**2], -1)[..., None]
    return after[..., 1, 0], after[..., 2, 0]


def asynchronous_mse_random_walk(
    rate: Values, visit_rate: Values, sigma: Values, step: Values, batch: Values = 1
) -> Number:
    r"""Settled mean squared error on a random walk, exactly (T10):

    .. math:: \frac{(1-q\kappa)\tau^2 + q\,b^2s^2/n}{q\kappa}

    Visits with probability exactly q, uncorrelated steps of standard deviation ``step`` (:math:`\tau`).

    >>> asynchronous_mse_random_walk(1.0, 0.5, sigma=1.0, step=1.0)
    2.0
    """
    b, q = assumptions.half_open_unit("rate", rate), assumptions.half_open_unit("visit_rate", visit_rate)
    s, tau = assumptions.non_negative("sigma", sigma), assumptions.non_negative("step", step)
    n = assumptions.at_least_one("batch", batch)
    kappa = b * (2 - b)
    return plain(tau**2 * (1 - q * kappa) / (q * kappa) + s**2 * b / (2 - b) / n)


def asynchronous_best_rate(
    visit_rate: Values,
    sigma: Values,
    drift: Values,
    batch: Values = 1,
    when: str = "now",
    adaptive: bool = True,
) -> Number:
    r"""The rate with the least settled bound of :func:`asynchronous_mse` (T12, T10), with :math:`\rho = D\sqrt n/s`.

    Adaptive, for both now and next: the root of :math:`\rho = \sqrt{\frac{b}{q(1-b)}}\,\big(1-\sqrt{1-bq}\big)`.
    Oblivious: the root, at most 1, of :math:`q^2b^3 = \rho^2[Y(2-b)^2 + (1-q)(1-b)b]` with Y = 1−qb now, 1 next,
    1−b at a visit; about :math:`(2\rho/q)^{2/3}`. All reduce to ``ema_best_rate`` at q = 1. 0 without drift.

    >>> round(asynchronous_best_rate(0.1, sigma=1.0, drift=0.01, adaptive=False), 4)
    0.3094
    """
    checks.one_of("when", when, ["now", "next", "visit"])
    if adaptive and when == "visit":
        raise ValueError("when='visit' has an oblivious form only: write adaptive=False")
    q = assumptions.half_open_unit("visit_rate", visit_rate)
    s, d = assumptions.non_negative("sigma", sigma), assumptions.non_negative("drift", drift)
    n = assumptions.at_least_one("batch", batch)
    rho, q = np.broadcast_arrays(_numerics.ratio(d, s / np.sqrt(n)), q)
    with np.errstate(divide="ignore"):
        log_rho = np.log(rho)

    def excess(u: Array, b: Array) -> Array:
        free = -np.expm1(u)  # 1-b
        if adaptive:
            log_root = np.log1p(np.sqrt(1 - b * q))
            return np.asarray(1.5 * u + 0.5 * np.log(q) - 0.5 * np.log(free) - log_root - log_rho)
        moving = {"now": 1 - q * b, "next": np.ones_like(b), "visit": free}[when]
        return np.asarray(3 * u + 2 * np.log(q) - 2 * log_rho - np.log(moving * (2 - b) ** 2 + (1 - q) * free * b))

    return plain(np.where(rho == 0, 0.0, _numerics.solve_rate(excess, rho)))


def asynchronous_best_mse(
    visit_rate: Values,
    sigma: Values,
    drift: Values,
    batch: Values = 1,
    when: str = "now",
    adaptive: bool = True,
) -> Number:
    """The least settled bound of :func:`asynchronous_mse` over rates (T12, T10); 0 without drift."""
    b = np.asarray(asynchronous_best_rate(visit_rate, sigma, drift, batch, when, adaptive))
    rate = np.where(b == 0, 1.0, b)
    best = asynchronous_mse(rate, visit_rate, sigma, drift, batch=batch, when=when, adaptive=adaptive)
    return plain(np.where(b == 0, 0.0, best))


# ------------------------------------------------------------------------------------------------- T11: random batches


def random_visit_rate(batch: Values, share: Values) -> Number:
    r"""Probability that a batch of B independent draws visits a region of that ``share`` :math:`\pi`:
    :math:`1-(1-\pi)^B` (T11).

    >>> random_visit_rate(2, 0.5)
    0.75
    """
    size, pi = assumptions.whole("batch", batch, least=1), assumptions.half_open_unit("share", share)
    return plain(_numerics.one_minus_power(_numerics.log_keep(pi), size))


def effective_batch(batch: Values, share: Values, exact: bool = True) -> Number:
    r"""The n to pass as ``batch`` where a visit holds :math:`n \sim Bin(B, \pi)` observations (T11).

    It is :math:`1/E[1/n\,|\,n\ge1]`, exactly by
    :math:`E[1_{n\ge1}/n] = \sum_{k=1}^B (1-\pi)^{B-k}\,(1-(1-\pi)^k)/k`, for batches up to 10⁶. With ``exact=False``
    by the closed form :math:`E[1_{n\ge1}/n] \le 2P(Bin(B+1,\pi)\ge2)/((B+1)\pi)`, at most 2 times too pessimistic.
    (The mean of n in its place is *not* a bound: it underestimates the noise.)

    >>> effective_batch(2, 0.5)  # n = 1 twice as likely as n = 2
    1.2
    """
    size, pi = assumptions.whole("batch", batch, least=1), assumptions.half_open_unit("share", share)
    visit = np.asarray(random_visit_rate(size, pi))
    size, pi = np.broadcast_arrays(size, pi)
    if not exact:
        from scipy.special import betainc

        inverse = 2 * betainc(2.0, size, pi) / ((size + 1) * pi)
        return plain(np.maximum(visit / inverse, 1.0))
    if np.any(size > 10**6):
        raise ValueError(f"batch must be at most 10**6 with exact=True, got {float(size.max())!r}: write exact=False")
    inverse = np.array([_mean_inverse(int(b), float(p)) for b, p in zip(size.flat, pi.flat)]).reshape(size.shape)
    return plain(np.clip(visit / inverse, 1.0, size))


def _mean_inverse(size: int, pi: float) -> float:
    """E[1{n ≥ 1}/n] for n ~ Bin(size, pi), from positive terms only."""
    k = np.arange(1.0, size + 1)
    log_miss = _numerics.log_keep(np.asarray(pi))
    return float((_numerics.power(log_miss, size - k) * _numerics.one_minus_power(log_miss, k) / k).sum())
