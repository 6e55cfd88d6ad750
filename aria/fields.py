"""What the values of a JSON object must be, declared field by field and checked where the object is read.

>>> check("row 3", {"step": -1}, {"step": WHOLE})
Traceback (most recent call last):
ValueError: row 3: step must be a whole number from 0 to 2^53, got -1
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

MOST = 2**53
"""The largest whole number up to which floats hold every one."""
HUGE = 1e40
"""More than the largest value of float32, from which all measurements come; its square is still a float."""


class Field(NamedTuple):
    """A rule for one value."""

    is_met: Callable[[Any], bool]
    says: str
    """The end of the sentence "… must be"."""


def check(where: str, value: Any, known: Mapping[str, Field], *, optional: Collection[str] = ()) -> dict[str, Any]:
    """The object itself, after a check of its fields; names that are not ``known`` are left alone."""
    if not isinstance(value, dict):
        raise ValueError(f"{where}: it must be an object, got {short(value)}")
    for name, rule in known.items():
        if name not in value:
            if name in optional:
                continue
            raise ValueError(f"{where}: {name} is missing")
        if not rule.is_met(value[name]):
            raise ValueError(f"{where}: {name} must be {rule.says}, got {short(value[name])}")
    return value


def short(value: Any) -> str:
    """A value in few letters, however large and however deeply nested it is.

    >>> short(10**400), short("x" * 99)
    ('100000000000000000...0000000000000000000', "'xxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxx'")
    """
    shorter = reprlib.Repr()
    shorter.maxlevel, shorter.maxstring, shorter.maxlist, shorter.maxdict = 3, 41, 4, 4
    return shorter.repr(value)


def is_whole(value: Any, least: int = 0, most: int = MOST) -> bool:
    """Whether it is a whole number, and no flag, between two others."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: Any) -> bool:
    """Whether it is a number that arithmetic can be done with, or not known (NaN), or infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return not math.isfinite(value) or abs(value) <= HUGE if isinstance(value, float) else abs(value) <= MOST


def is_known(value: Any) -> bool:
    """Whether it is a finite number."""
    return is_number(value) and math.isfinite(value)


def each(rule: Field, *, of: str) -> Field:
    """A list, perhaps empty, of values that meet ``rule``."""
    return Field(lambda value: isinstance(value, list) and all(map(rule.is_met, value)), f"a list of {of}")


def record(known: Mapping[str, Field]) -> Field:
    """An object with these fields."""

    def is_met(value: Any) -> bool:
        return isinstance(value, dict) and all(
            name in value and rule.is_met(value[name]) for name, rule in known.items()
        )

    return Field(is_met, f"an object with {', '.join(f'{name} ({rule.says})' for name, rule in known.items())}")


def whole(least: int, most: int = MOST) -> Field:
    """A whole number of at least ``least``."""
    upper = "2^53" if most == MOST else f"{most}"
    return Field(lambda value: is_whole(value, least, most), f"a whole number from {least} to {upper}")


WHOLE, POSITIVE = whole(0), whole(1)
NUMBER = Field(is_number, f"a number of at most {HUGE:g}")
KNOWN = Field(is_known, f"a finite number of at most {HUGE:g}")
AMOUNT = Field(lambda value: is_known(value) and value >= 0, f"a number from 0 to {HUGE:g}")
PROBABILITY = Field(lambda value: is_known(value) and 0 <= value <= 1, "a number from 0 to 1")
TEXT = Field(lambda value: isinstance(value, str), "text")
