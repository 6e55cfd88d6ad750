"""A setting: how it is declared, and what values it takes."""

from __future__ import annotations

import types
import typing
from dataclasses import field
from typing import Any, NamedTuple


def said(default: Any, help: str) -> Any:
    """A dataclass field with a default and a line of help."""
    return field(default=default, metadata={"help": help})


class Kind(NamedTuple):
    """What a setting's value may be."""

    of: type
    optional: bool
    """Whether it may be missing."""
    several: bool
    """Whether there may be many."""


def kind(hint: Any) -> Kind:
    """What a type hint allows.

    >>> kind(int | None), kind(tuple[str, ...])
    (Kind(of=<class 'int'>, optional=True, several=False), Kind(of=<class 'str'>, optional=False, several=True))
    """
    optional = isinstance(hint, types.UnionType)
    if optional:
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    several = typing.get_origin(hint) is tuple
    return Kind(typing.get_args(hint)[0] if several else hint, optional, several)


def typed(name: str, wanted: Kind, value: Any) -> Any:
    """The value as a setting of this kind holds it, or a line that says what it must be."""
    if value is None and wanted.optional:
        return None
    if wanted.several:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise ValueError(f"{name} must be a list, got {value!r}")
        return tuple(_one(name, wanted.of, item) for item in items)
    return _one(name, wanted.of, value)


def _one(name: str, wanted: type, value: Any) -> Any:
    if wanted is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-4 as text
        except ValueError:
            pass
        except OverflowError:
            raise ValueError(f"{name} must be a number that a float can hold, got {value!r:.30}…") from None
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        words = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
        raise ValueError(f"{name} must be {words[wanted]}, got {value!r}")
    return value
