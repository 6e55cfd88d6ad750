"""Paired comparisons with a baseline arm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any


@dataclass(frozen=True)
class Change:
    """How one arm's metric differs from the baseline's, over common seeds."""

    mean: float
    """Mean of the changes, in per cent of the baseline."""
    error: float
    """Its standard error; NaN with one seed."""
    p: float
    """Two-sided p of a paired t test on the logarithms' differences; NaN with one seed."""
    seeds: int


def change(ours: Sequence[float], theirs: Sequence[float]) -> Change:
    """The change from ``theirs`` to ``ours``, seed by seed.

    >>> found = change([0.9, 0.8, 0.85], [1.0, 1.0, 1.0])
    >>> round(found.mean, 1), round(found.error, 1), found.p < 0.05
    (-15.0, 2.9, True)
    """
    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"a paired comparison needs as many values on both sides, got {len(ours)} and {len(theirs)}")
    relative = [100 * (a / b - 1) for a, b in zip(ours, theirs, strict=True)]
    if len(ours) == 1:
        return Change(relative[0], math.nan, math.nan, 1)
    logs = [math.log(a / b) for a, b in zip(ours, theirs, strict=True)]
    return Change(mean(relative), stdev(relative) / math.sqrt(len(ours)), paired_p(logs), len(ours))


def paired_p(differences: Sequence[float]) -> float:
    """Two-sided p of Student's test that the mean of ``differences`` is 0."""
    from scipy.stats import t as student

    spread = stdev(differences)
    if spread == 0:
        return 1.0 if mean(differences) == 0 else 0.0
    score = mean(differences) / (spread / math.sqrt(len(differences)))
    return float(2 * student.sf(abs(score), len(differences) - 1))


def holm(p: dict[Any, float]) -> dict[Any, float]:
    """S. Holm's step-down adjustment (1979): the chance of any false finding among all stays below the level.

    >>> holm({"a": 0.01, "b": 0.04})
    {'a': 0.02, 'b': 0.04}
    """
    known = sorted((value, key) for key, value in p.items() if not math.isnan(value))
    adjusted, highest = dict(p), 0.0
    for place, (value, key) in enumerate(known):
        highest = max(highest, min(1.0, value * (len(known) - place)))
        adjusted[key] = highest
    return adjusted


def reach(steps: Sequence[int], values: Sequence[float], level: float) -> float:
    """The step at which a falling curve first reaches ``level``, between examinations on a straight line; NaN if never.

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
