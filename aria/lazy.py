"""Names of a package that are loaded when they are first asked for, so that what is not used costs no time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from importlib import import_module
from typing import Any


def attributes(
    package: str, exported: Collection[str], homes: Collection[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package: names it exports, from the first of its modules ``homes`` that has
    them; else the package's module of that name.

    >>> find, names = attributes("aria", ["Pool"], ["pool"])
    >>> find("Pool"), "Pool" in names()
    (<class 'aria.pool.Pool'>, True)
    """

    def attribute(name: str) -> Any:
        if name in exported:
            for home in (import_module(f"{package}.{home}") for home in homes):
                if name in vars(home) or name in getattr(home, "__all__", ()):
                    value = getattr(home, name)
                    setattr(sys.modules[package], name, value)
                    return value
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *exported})

    return attribute, names
