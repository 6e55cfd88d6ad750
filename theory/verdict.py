"""Confidence intervals for measured numbers, and whether a claim about such a number holds.

``alarm`` is the probability that an interval misses the true value (one minus the confidence level). The intervals are
SciPy's, which is imported when the first one is computed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from aria import checks

SENSES = ("equal", "at most", "above")
"""How a measured number can be claimed to compare with a reference; see :func:`holds`."""
ROUNDING = 1e-9
"""Relative difference that is attributed to rounding."""


class Interval(NamedTuple):
    """A measured number and a confidence interval of its true value."""

    value: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half-width: the longer of the two sides."""
        return max(self.high - self.value, self.value - self.low)

    def over(self, divisor: float) -> Interval:
        """The interval of the ratio to ``divisor``."""
        ends = sorted((self.low / divisor, self.high / divisor))
        return Interval(self.value / divisor, ends[0], ends[1])


def mean_interval(sample: Tensor, alarm: float) -> Interval:
    """Interval of the mean of independent numbers with finite variance, by the central limit theorem (z interval).

    >>> import torch
    >>> mean_interval(torch.tensor([0.0, 1.0] * 5000, dtype=torch.float64), alarm=1e-6)
    Interval(value=0.5, low=0.4755, high=0.5245)
    """
    from scipy.stats import norm

    x = _sample(sample, alarm)
    mean, side = float(x.mean()), float(norm.isf(alarm / 2)) * float(x.std()) / math.sqrt(x.numel())
    return Interval(mean, mean - side, mean + side)


def variance_interval(sample: Tensor, alarm: float) -> Interval:
    """Interval of the variance of independent normal numbers, exactly (chi-square); not valid for other laws."""
    from scipy.stats import chi2

    x = _sample(sample, alarm)
    freedom, variance = x.numel() - 1, float(x.var())
    low, high = chi2.interval(1 - alarm, freedom)
    return Interval(variance, variance * freedom / float(high), variance * freedom / float(low))


def proportion_interval(hits: int, trials: int, alarm: float) -> Interval:
    """Interval of a probability, exactly (Clopper and Pearson).

    >>> proportion_interval(0, 1000, alarm=0.05).high
    0.0036821
    """
    from scipy.stats import binomtest

    checks.whole("trials", trials, least=1)
    checks.open_unit("alarm", alarm)
    if not 0 <= hits <= trials:
        raise ValueError(f"hits must lie between 0 and trials={trials}, got {hits!r}")
    band = binomtest(hits, trials).proportion_ci(1 - alarm, method="exact")
    return Interval(hits / trials, float(band.low), float(band.high))


def quantile_interval(sample: Tensor, level: float, alarm: float) -> Interval:
    """Interval of the quantile at ``level`` of any law, by order statistics (binomial); open where the sample ends.

    >>> import torch
    >>> quantile_interval(torch.arange(10_000.0), 0.9, alarm=0.05)
    Interval(value=9000.0, low=8940.0, high=9058.0)
    """
    from scipy.stats import quantile_test

    x = _sample(sample, alarm)
    value = float(x.sort().values[min(int(level * x.numel()), x.numel() - 1)])
    low, high = map(float, quantile_test(x.numpy(), p=level).confidence_interval(1 - alarm))
    return Interval(value, -math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high)


def truncated_interval(sample: Tensor, cap: float, alarm: float) -> Interval:
    r"""Interval of :math:`E\min(x, cap)` for independent x ≥ 0 of any law (empirical Bernstein); its lower end is also
    one for E x.

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
    """Whether a claim about the true value holds.

    "equal" and "at most" fail only if the interval contradicts them; "above" holds only if the interval proves it.

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
    """Whether the sample has the power to detect an effect: it exceeds two half-widths."""
    return abs(effect) > 2 * half


def _sample(sample: Tensor, alarm: float) -> Tensor:
    checks.open_unit("alarm", alarm)
    if sample.numel() < 2:
        raise ValueError(f"sample must hold at least 2 numbers, got {sample.numel()}")
    return sample.flatten().double()
