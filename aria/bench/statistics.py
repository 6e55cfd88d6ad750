"""Paired comparisons with a baseline arm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from aria.significance import paired_p


@dataclass(frozen=True)
class Change:
    """How one arm's metric differs from the baseline's with the same seeds."""

    mean: float
    """Mean change relative to the baseline, in percent."""
    error: float
    """Its standard error; NaN with one seed."""
    p: float
    """Two-sided p value of a paired t test on the logarithms; NaN with one seed."""
    seeds: int
    """Number of seeds."""


def change(ours: Sequence[float], theirs: Sequence[float]) -> Change:
    """The change from ``theirs`` to ``ours``, one value for each seed.

    >>> found = change([0.9, 0.8, 0.85], [1.0, 1.0, 1.0])
    >>> round(found.mean, 1), round(found.error, 1), found.p < 0.05
    (-15.0, 2.9, True)
    """
    from scipy.stats import sem

    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"a paired comparison needs as many values on both sides, got {len(ours)} and {len(theirs)}")
    relative = [100 * (a / b - 1) for a, b in zip(ours, theirs, strict=True)]
    if len(ours) == 1:
        return Change(relative[0], math.nan, math.nan, 1)
    logs = [math.log(a / b) for a, b in zip(ours, theirs, strict=True)]
    return Change(mean(relative), float(sem(relative)), paired_p(logs), len(ours))


def reach(steps: Sequence[int], values: Sequence[float], level: float) -> float:
    """The step at which a falling curve first reaches ``level``, by linear interpolation; NaN if it never does.

    >>> reach([100, 200], [1.0, 0.5], 0.75)
    150.0
    """
    before_step, before = 0.0, math.inf
    for step, value in zip(steps, values, strict=True):
        if value <= level:
            if math.isinf(before) or before == value:
                return float(step)
            return before_step + (step - before_step) * (before - level) / (before - value)
        before_step, before = float(step), value
    return math.nan
