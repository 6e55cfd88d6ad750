"""Tests of several paired differences."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any


def paired_p(differences: Sequence[float]) -> float:
    """Two-sided p value of Student's t test that the mean of ``differences`` is 0; 1 if all of them are 0.

    >>> round(paired_p([0.1, 0.2, 0.3]), 4)
    0.0742
    """
    from scipy.stats import ttest_1samp

    if not any(differences):
        return 1.0  # SciPy divides 0 by 0
    with warnings.catch_warnings():
        # Differences that are equal up to rounding, as of an arm beside itself scaled, have a p value near 0.
        warnings.filterwarnings("ignore", "Precision loss occurred in moment calculation", RuntimeWarning)
        return float(ttest_1samp(differences, 0.0).pvalue)


def holm(p: dict[Any, float]) -> dict[Any, float]:
    """Holm's step-down adjustment for several tests: the probability of one or more false positives among all of them
    stays below the significance level (S. Holm, "A simple sequentially rejective multiple test procedure", 1979). SciPy
    has no such function.

    >>> holm({"a": 0.01, "b": 0.04})
    {'a': 0.02, 'b': 0.04}
    """
    known = sorted((value, key) for key, value in p.items() if not math.isnan(value))
    adjusted, highest = dict(p), 0.0
    for place, (value, key) in enumerate(known):
        highest = max(highest, min(1.0, value * (len(known) - place)))
        adjusted[key] = highest
    return adjusted
