"""One setting: how it is declared, what the rest of the code needs to know of it, and which values it takes."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from aria.checks import InvalidSetting

Place = Literal["input", "run"]


@dataclass(frozen=True)
class About:
    """What is known of a setting besides its name, type and default."""

    help: str
    """A sentence that can be read alone; ``--help`` and the documentation show it."""
    may_change: bool
    """Whether a resumed run may change it, since it has no effect on the arithmetic or is compared by content."""
    place: Place | None
    """``"input"``: names a folder, a file or a model on the hub that is read. ``"run"``: says where this run writes."""
    by_benchmark: bool
    """Whether ``aria bench`` decides it, through the task, the arm, the seed or the schedule of evaluations."""
    choices: tuple[str, ...] = ()
    """The only values, if there are few."""
    part: str | None = None
    """The kind of part that it names by a spec, such as ``"tracker"``."""


def setting(
    default: Any,
    help: str,
    *,
    may_change: bool = False,
    place: Place | None = None,
    by_benchmark: bool = False,
    choices: tuple[str, ...] = (),
    part: str | None = None,
) -> Any:
    """A dataclass field that declares a setting. A setting that names a place may always change on resume."""
    about = About(help, may_change or place is not None, place, by_benchmark, choices, part)
    return field(default=default, metadata={"about": about})


class Kind(NamedTuple):
    """Which values a setting takes."""

    of: type
    optional: bool
    """Whether it may be None."""
    several: bool
    """Whether it is a tuple of values."""


def kind(hint: Any) -> Kind:
    """The values that a type hint allows.

    >>> kind(int | None), kind(tuple[str, ...])
    (Kind(of=<class 'int'>, optional=True, several=False), Kind(of=<class 'str'>, optional=False, several=True))
    """
    optional = isinstance(hint, types.UnionType)
    if optional:
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    several = typing.get_origin(hint) is tuple
    return Kind(typing.get_args(hint)[0] if several else hint, optional, several)


def typed(name: str, wanted: Kind, value: Any) -> Any:
    """``value`` converted to the kind of the setting ``name``; :class:`InvalidSetting` if it cannot be."""
    if value is None and wanted.optional:
        return None
    if wanted.several:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise InvalidSetting(name, "type", f"{name} must be a list, got {value!r}")
        return tuple(_one(name, wanted.of, item) for item in items)
    return _one(name, wanted.of, value)


def _one(name: str, wanted: type, value: Any) -> Any:
    if wanted is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-4 as text
        except ValueError:
            pass
        except OverflowError:
            raise InvalidSetting(
                name, "range", f"{name} must be a number that a float can hold, got {value!r:.30}…"
            ) from None
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        words = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
        raise InvalidSetting(name, "type", f"{name} must be {words[wanted]}, got {value!r}")
    return value
