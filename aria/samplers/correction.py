"""How importance weights are written: ``"none"``, ``"importance"`` or ``"tempered(0.5)"``. Loads no library."""

from __future__ import annotations

import math
import re

from aria.checks import InvalidSetting


def exponent(correction: str) -> float:
    """The power λ of the importance weights (p/q)^λ.

    >>> exponent("tempered(0.5)")
    0.5
    """
    named = {"none": 0.0, "importance": 1.0}
    tempered = re.fullmatch(r"\s*tempered\(\s*([0-9.eE+-]+)\s*\)\s*", str(correction))
    try:
        power = float(tempered[1]) if tempered else named[correction]
    except (KeyError, ValueError, TypeError):
        power = math.nan
    if not 0 <= power <= 1:
        raise InvalidSetting(
            "correction",
            "choice",
            f'correction must be "none", "importance" or "tempered(λ)" with λ in [0, 1], got {correction!r}',
        )
    return power
