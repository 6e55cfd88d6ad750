"""Checks of the arguments of bounds: numbers in, float64 arrays out, a one-line ValueError if one is out of range."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.float64]
Number = float | Array
"""The result of a bound: a float for numbers, an array for arrays."""
Values = Any
"""A number, or anything that NumPy or torch converts to an array."""


def finite(name: str, value: Values) -> Array:
    """Any finite numbers."""
    return _checked(name, value, np.isfinite, "be finite")


def non_negative(name: str, value: Values) -> Array:
    """Numbers that are at least 0 and finite.

    >>> non_negative("sigma", -1.0)
    Traceback (most recent call last):
    ValueError: sigma must be non-negative and finite, got -1.0
    """
    return _checked(name, value, lambda x: (x >= 0) & np.isfinite(x), "be non-negative and finite")


def positive(name: str, value: Values) -> Array:
    """Numbers above 0 and finite."""
    return _checked(name, value, lambda x: (x > 0) & np.isfinite(x), "be positive and finite")


def positive_or_inf(name: str, value: Values) -> Array:
    """Numbers above 0, including infinity."""
    return _checked(name, value, lambda x: x > 0, "be positive")


def at_least_one(name: str, value: Values) -> Array:
    """Finite numbers of at least 1, whole or not."""
    return _checked(name, value, lambda x: (x >= 1) & np.isfinite(x), "be at least 1 and finite")


def half_open_unit(name: str, value: Values) -> Array:
    """Numbers in (0, 1], such as a rate or a probability of a visit."""
    return _checked(name, value, lambda x: (x > 0) & (x <= 1), "lie in (0, 1]")


def open_unit(name: str, value: Values) -> Array:
    """Numbers in (0, 1), such as a probability of failure."""
    return _checked(name, value, lambda x: (x > 0) & (x < 1), "lie in (0, 1)")


def closed_unit(name: str, value: Values) -> Array:
    """Numbers in [0, 1], such as the gain at a step."""
    return _checked(name, value, lambda x: (x >= 0) & (x <= 1), "lie in [0, 1]")


def unit_but_one(name: str, value: Values) -> Array:
    """Numbers in [0, 1), such as a relative error."""
    return _checked(name, value, lambda x: (x >= 0) & (x < 1), "lie in [0, 1)")


def whole(name: str, value: Values, least: int = 0) -> Array:
    """Finite whole numbers of at least ``least``, up to 2**53, beyond which float64 skips some."""
    return _checked(
        name,
        value,
        lambda x: (x >= least) & (x <= 2.0**53) & (x == np.floor(x)),
        f"be a whole number of at least {least} (at most 2**53)",
    )


def whole_or_inf(name: str, value: Values, least: int = 0) -> Array:
    """Whole numbers of at least ``least``, or infinity for "in the long run"."""
    return _checked(
        name,
        value,
        lambda x: np.isposinf(x) | ((x >= least) & (x <= 2.0**53) & (x == np.floor(x))),
        f"be a whole number of at least {least} (at most 2**53) or inf",
    )


def distribution(name: str, value: Values) -> Array:
    """(..., K) shares that sum to one over the last axis.

    >>> distribution("mass", [0.5, 0.6])
    Traceback (most recent call last):
    ValueError: mass must sum to 1 over its last axis, got 1.1
    """
    shares = non_negative(name, value)
    if shares.ndim == 0:
        raise ValueError(f"{name} must have a last axis of shares, got {float(shares)!r}")
    _require(name, shares.sum(-1), np.abs(shares.sum(-1) - 1) <= 1e-9, "sum to 1 over its last axis")
    return shares


def below(name: str, value: Array, other: str, limit: Array) -> None:
    """Raise if ``value`` is not below ``limit``."""
    value, limit = np.broadcast_arrays(value, limit)
    _require(name, value, value < limit, f"be below {other}")


def at_most(name: str, value: Array, other: str, limit: Array) -> None:
    """Raise if ``value`` is above ``limit``."""
    value, limit = np.broadcast_arrays(value, limit)
    _require(name, value, value <= limit, f"be at most {other}")


def plain(value: Array) -> Number:
    """A float if there is just one number."""
    return float(value) if np.ndim(value) == 0 else value


def array(name: str, value: Values) -> Array:
    """``value`` as float64; tensors may be on any device."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number or an array of numbers, got {value!r}") from None


def _checked(name: str, value: Values, holds: Any, allowed: str) -> Array:
    numbers = array(name, value)
    _require(name, numbers, holds(numbers), allowed)
    return numbers


def _require(name: str, numbers: Array, holds: Any, allowed: str) -> None:
    if not np.all(holds):
        raise ValueError(f"{name} must {allowed}, got {float(numbers[~np.asarray(holds)].flat[0])!r}")
