"""What a sample says about a number: an interval that misses it with a stated probability, and whether a claim holds.

``alarm`` is the probability with which an interval misses the truth. SciPy is loaded when an interval is asked for.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from aria import checks

SENSES = ("equal", "at most", "above")
"""What can be claimed of a measured number and a reference; see :func:`holds`."""
ROUNDING = 1e-9
"""Relative difference that is put down to rounding."""


class Interval(NamedTuple):
    """A measured number and the interval that holds the true one."""

    value: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """The longer of the two sides."""
        return max(self.high - self.value, self.value - self.low)

    def over(self, divisor: float) -> Interval:
        """The interval of the ratio to a number."""
        ends = sorted((self.low / divisor, self.high / divisor))
        return Interval(self.value / divisor, ends[0], ends[1])


def mean_interval(sample: Tensor, alarm: float) -> Interval:
    """Of the mean of independent numbers with a finite variance, by the central limit theorem (z).

    >>> import torch
    >>> mean_interval(torch.tensor([0.0, 1.0] * 5000, dtype=torch.float64), alarm=1e-6)
    Interval(value=0.5, low=0.4755, high=0.5245)
    """
    from scipy.stats import norm

    x = _sample(sample, alarm)
    side = float(norm.isf(alarm / 2)) * float(x.std()) / math.sqrt(x.numel())
    mean = float(x.mean())
    return Interval(mean, mean - side, mean + side)


def variance_interval(sample: Tensor, alarm: float) -> Interval:
    """Of the variance of independent normal numbers, exactly (chi-square); for no other law."""
    from scipy.stats import chi2

    x = _sample(sample, alarm)
    freedom, variance = x.numel() - 1, float(x.var())
    ends = (float(tail(alarm / 2, freedom)) / freedom for tail in (chi2.isf, chi2.ppf))
    return Interval(variance, *(variance / end for end in ends))


def proportion_interval(hits: int, trials: int, alarm: float) -> Interval:
    """Of a probability, exactly (Clopper and Pearson).

    >>> proportion_interval(0, 1000, alarm=0.05).high
    0.0036821
    """
    from scipy.stats import beta

    checks.whole("trials", trials, least=1)
    checks.open_unit("alarm", alarm)
    if not 0 <= hits <= trials:
        raise ValueError(f"hits must lie between 0 and trials={trials}, got {hits!r}")
    low = float(beta.ppf(alarm / 2, hits, trials - hits + 1)) if hits else 0.0
    high = float(beta.isf(alarm / 2, hits + 1, trials - hits)) if hits < trials else 1.0
    return Interval(hits / trials, low, high)


def truncated_interval(sample: Tensor, cap: float, alarm: float) -> Interval:
    r"""Of :math:`E\min(x, cap)` for independent x ≥ 0 of any law (empirical Bernstein), hence from below of E x.

    .. math:: \pm\sqrt{2V l/n} + \frac{7\,cap\,l}{3(n-1)}, \qquad l = \ln(4/alarm)

    A. Maurer, M. Pontil, "Empirical Bernstein bounds and sample variance penalization", 2009.
    """
    checks.positive("cap", cap)
    x = _sample(sample, alarm)
    if bool((x < 0).any()):
        raise ValueError(f"sample must be non-negative, got {float(x.min())!r}")
    x, n, log_term = x.clamp(max=cap), x.numel(), math.log(4 / alarm)
    side = math.sqrt(2 * float(x.var()) * log_term / n) + 7 * cap * log_term / (3 * (n - 1))
    mean = float(x.mean())
    return Interval(mean, mean - side, mean + side)


def holds(measured: Interval, sense: str, reference: float) -> bool:
    """Whether a claim about the true number stands.

    "equal" and "at most" fall only where the interval contradicts them; "above" must be shown by the interval.

    >>> band = Interval(1.0, 0.9, 1.1)
    >>> holds(band, "equal", 1.05), holds(band, "at most", 0.8), holds(band, "above", 0.95)
    (True, False, False)
    """
    checks.one_of("sense", sense, SENSES)
    if not all(map(math.isfinite, (*measured, reference))):
        return False
    slack = ROUNDING * max(abs(reference), abs(measured.value))
    not_above, not_below = measured.low <= reference + slack, measured.high >= reference - slack
    return {"equal": not_above and not_below, "at most": not_above, "above": measured.low > reference + slack}[sense]


def powered(effect: float, half: float) -> bool:
    """Whether a difference could not well have been missed: it exceeds two half-widths."""
    return abs(effect) > 2 * half


def _sample(sample: Tensor, alarm: float) -> Tensor:
    checks.open_unit("alarm", alarm)
    if sample.numel() < 2:
        raise ValueError(f"sample must hold at least 2 numbers, got {sample.numel()}")
    return sample.flatten().double()
