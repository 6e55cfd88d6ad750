"""Checks of arguments and settings. A refusal is one line that names the value and what is allowed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real


class InvalidSetting(ValueError):
    """A refused argument or setting: its name, and which kind of rule it broke.

    >>> closed_unit("floor", 1.5)
    Traceback (most recent call last):
    aria.checks.InvalidSetting: floor must lie in [0, 1], got 1.5
    """

    def __init__(self, setting: str, kind: str, message: str) -> None:
        """``kind``: ``type``, ``range``, ``choice``, ``missing``, ``unknown``, ``file`` or ``conflict``."""
        super().__init__(message)
        self.setting, self.kind = setting, kind


def _number(value: object) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of 400 digits, which no float can hold
        return False


def number(name: str, value: float) -> None:
    """Refuse anything but a number; infinity and NaN are left to the caller."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise InvalidSetting(name, "type", f"{name} must be a number, got {value!r}")


def open_unit(name: str, value: float) -> None:
    """Refuse a value outside (0, 1)."""
    if not (_number(value) and 0 < value < 1):
        raise InvalidSetting(name, "range", f"{name} must lie in (0, 1), got {value!r}")


def half_open_unit(name: str, value: float) -> None:
    """Refuse a value outside (0, 1]."""
    if not (_number(value) and 0 < value <= 1):
        raise InvalidSetting(name, "range", f"{name} must lie in (0, 1], got {value!r}")


def closed_unit(name: str, value: float) -> None:
    """Refuse a value outside [0, 1]."""
    if not (_number(value) and 0 <= value <= 1):
        raise InvalidSetting(name, "range", f"{name} must lie in [0, 1], got {value!r}")


def positive(name: str, value: float) -> None:
    """Refuse a value that is not positive and finite."""
    if not (_number(value) and value > 0):
        raise InvalidSetting(name, "range", f"{name} must be positive and finite, got {value!r}")


def non_negative(name: str, value: float) -> None:
    """Refuse a value that is negative or not finite."""
    if not (_number(value) and value >= 0):
        raise InvalidSetting(name, "range", f"{name} must be non-negative and finite, got {value!r}")


def whole(name: str, value: int, least: int | None = None) -> None:
    """Refuse anything but a whole number, of at least ``least`` if given."""
    if isinstance(value, bool) or not isinstance(value, Integral) or (least is not None and value < least):
        raise InvalidSetting(
            name, "range",
            f"{name} must be a whole number{'' if least is None else f' of at least {least}'}, got {value!r}"
        )


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse anything but one of a few words."""
    if value not in allowed:
        raise InvalidSetting(name, "choice", f"{name} must be {' or '.join(map(repr, allowed))}, got {value!r}")


def flag(name: str, value: bool) -> None:
    """Refuse anything but True and False: other values would pass for one of them."""
    if not isinstance(value, bool):
        raise InvalidSetting(name, "type", f"{name} must be True or False, got {value!r}")


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` may be a misspelling of."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def hint(name: str, known: Iterable[str]) -> str:
    """What may have been meant, for the middle of a sentence; nothing where no name is similar.

    >>> hint("emma", ["ema", "bank"])
    " (did you mean 'ema'?)"
    """
    close = closest(name, known)
    return "" if close is None else f" (did you mean {close!r}?)"
