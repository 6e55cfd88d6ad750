"""Arithmetic that stays accurate where the obvious formula cancels or overflows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from theory.assumptions import Array

EXACT_STEPS = 4096
"""Number of steps for which a recursion without closed form is computed step by step."""


def log_keep(rate: Array) -> Array:
    """ln(1-b), which is -inf for b = 1."""
    with np.errstate(divide="ignore"):
        return np.log1p(-rate)


def power(log_base: Array, exponent: Array) -> Array:
    """x**t from ln x, with x**0 = 1 and, for x < 1, x**inf = 0."""
    with np.errstate(invalid="ignore"):
        return np.where(exponent == 0, 1.0, np.exp(log_base * exponent))


def one_minus_power(log_base: Array, exponent: Array) -> Array:
    """1 - x**t from ln x, without cancellation."""
    with np.errstate(invalid="ignore"):
        return np.where(exponent == 0, 0.0, -np.expm1(log_base * exponent))


def power_gap(first: Array, second: Array, exponent: Array) -> Array:
    """(x**t - y**t)/(x - y) for x, y in [0, 1], which is t·x**(t-1) for x = y."""
    big, small = np.maximum(first, second), np.minimum(first, second)
    gap = np.where(big > small, big - small, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_ratio = np.log1p(-gap / np.where(big > 0, big, 1.0))  # ln(y/x)
        apart = big**exponent * one_minus_power(log_ratio, exponent) / gap
        same = np.where(exponent == 0, 0.0, exponent * big ** np.maximum(exponent - 1, 0))
    return np.where(big > small, apart, same)


def ratio(drift: Array, sigma: Array) -> Array:
    """Ratio of drift to noise; infinite without noise."""
    noisy = sigma > 0
    return np.where(noisy, drift / np.where(noisy, sigma, 1.0), np.inf)


def solve_rate(increasing: Callable[[Array, Array], Array], known: Array) -> Array:
    """The rate b = e**u in (0, 1] where ``increasing(u, b)`` changes sign, for each entry of ``known``.

    Bisection of u: always converges to full relative precision, and returns 1 if the sign never changes.
    """
    low, high = np.full_like(known, -740.0), np.zeros_like(known)
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(80):
            middle = (low + high) / 2
            above = increasing(middle, np.exp(middle)) > 0
            low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.exp(high)


@cache
def legendre(count: int) -> tuple[Array, Array]:
    """Nodes and weights of Gauss and Legendre's quadrature on [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return nodes, weights


def matrix_power(matrix: Array, log_diagonal: Array, steps: Array) -> Array:
    """(..., d, d) powers of lower triangular matrices without negative entries, by repeated squaring.

    The diagonal is computed from its logarithm, so that nothing cancels and rounding errors grow only with the number
    of squarings: a linear recursion of non-negative terms after 10¹² steps, to twelve digits.
    """
    steps = np.broadcast_arrays(steps, log_diagonal[..., 0])[0]
    size = matrix.shape[-1]
    on = np.arange(size)
    base = np.broadcast_to(matrix, (*steps.shape, size, size)).copy()
    result = np.broadcast_to(np.eye(size), base.shape).copy()
    left, done, stride = steps.copy(), np.zeros_like(steps), 1.0
    while np.any(left > 0):
        odd = left % 2 == 1
        done = done + np.where(odd, stride, 0.0)
        result = np.where(odd[..., None, None], result @ base, result)
        result[..., on, on] = power(log_diagonal, done[..., None])
        base = base @ base
        stride *= 2
        base[..., on, on] = power(log_diagonal, np.asarray(stride))
        left = np.floor(left / 2)
    return result


def norm_fixed_point(shrink_loss: Array, noise: Array, drift: Array) -> Array:
    """The v with v² = (1-loss)(v+D)² + noise, for a ``shrink_loss`` in (0, 1]."""
    keep = 1 - shrink_loss
    return (keep * drift + np.sqrt(keep * drift**2 + shrink_loss * noise)) / shrink_loss


def norm_recursion(
    shrink_loss: Array, noise: Array, drift: Array, initial: Array, steps: Array, log_shrink: Array
) -> Array:
    """v after ``steps`` of v² ← (1-loss)(v+D)² + noise, from v = ``initial``; an upper bound beyond EXACT_STEPS.

    The map is increasing with slope at most √(1-loss), which bounds how much v exceeds its fixed point after more
    steps.
    """
    shrink_loss, noise, drift, initial, steps, log_shrink = np.broadcast_arrays(
        shrink_loss, noise, drift, initial, steps, log_shrink
    )
    limit = norm_fixed_point(shrink_loss, noise, drift)
    v, finite = initial.astype(np.float64), steps[np.isfinite(steps)]
    followed = int(min(finite.max(), EXACT_STEPS)) if finite.size else 0
    for step in range(followed):
        new = np.where(step < steps, np.sqrt((1 - shrink_loss) * (v + drift) ** 2 + noise), v)
        if np.array_equal(new, v):
            break
        v = new
    rest = np.maximum(steps - EXACT_STEPS, 0.0)
    beyond = limit + power(log_shrink / 2, rest) * np.maximum(v - limit, 0.0)
    exact = steps <= EXACT_STEPS
    return np.where(exact, v, beyond)
