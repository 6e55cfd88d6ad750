"""All claims: those exported by the modules of :mod:`theory.claims.stories`, in the order of the statements."""

from __future__ import annotations

import importlib
import pkgutil
import re

from theory.claims import stories
from theory.claims.base import Claim


def _collected() -> tuple[Claim, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(stories.__path__))
    found = (importlib.import_module(f"{stories.__name__}.{name}").CLAIMS for name in names)
    return tuple(sorted((claim for claims in found for claim in claims), key=lambda claim: _order(claim.statement)))


def _order(statement: str) -> tuple[bool, int, str]:
    """Sort key: T2 before T10, statements without a number last.

    >>> sorted(["RICE", "T10", "T2, T7"], key=_order)
    ['T2, T7', 'T10', 'RICE']
    """
    number = re.match(r"T(\d+)", statement)
    return number is None, int(number[1]) if number else 0, statement


CLAIMS = _collected()
