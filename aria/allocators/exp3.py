"""Effort by exponential weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from aria import checks
from aria.allocators import reading
from aria.interfaces import Allocator, Estimate


@dataclass(frozen=True)
class Exp3(Allocator):
    r"""Exponential weights over discounted sums of gains, mixed with the base measure.

    .. math:: q_k = (1-\gamma)\,\frac{b_k \exp(\gamma G_k/K)}{\sum_j b_j \exp(\gamma G_j/K)}
              + \gamma\,\frac{b_k}{\sum_j b_j}, \qquad b_k = p_k^{base},\quad G_k = horizon \cdot m_k / ceiling

    A gain is a discrepancy found, as a share of ``ceiling``; ``None`` takes the largest value of the replica. The sum
    :math:`G` of importance-weighted gains comes from the tracker ``ema(rate=1/horizon, importance=True)``, whose
    estimate is, in expectation, ``rate`` times the discounted sum. ``explore`` is :math:`\gamma`; ``None`` takes the
    tuned value :math:`\min(1, \sqrt{K \ln K / ((e-1)\,horizon)})`. With ``base=0`` and no discounting this is
    algorithm Exp3 of P. Auer, N. Cesa-Bianchi, Y. Freund, R. E. Schapire, "The Nonstochastic Multiarmed Bandit
    Problem", SIAM Journal on Computing 32, 2002 (corollary 3.2). Only differences of the sums enter an exponential,
    so no number of steps overflows.

    >>> import torch
    >>> q = Exp3(horizon=100)(Estimate(torch.tensor([0.2, 0.4]), torch.zeros(2)), torch.tensor([0.5, 0.5]))
    >>> q.round(decimals=3)
    tensor([0.1320, 0.8680])
    """

    horizon: float = 1000.0
    explore: float | None = None
    ceiling: float | None = None
    base: float = 1.0

    def __post_init__(self) -> None:
        checks.positive("horizon", self.horizon)
        if self.explore is not None:
            checks.half_open_unit("explore", self.explore)
        if self.ceiling is not None:
            checks.positive("ceiling", self.ceiling)
        checks.non_negative("base", self.base)

    def gamma(self, regions: int) -> float:
        """The share of exploration, and ``regions`` times the learning rate.

        >>> round(Exp3(horizon=1000).gamma(10), 4)
        0.1158
        """
        if self.explore is not None:
            return self.explore
        return min(1.0, math.sqrt(regions * math.log(regions) / ((math.e - 1) * self.horizon)))

    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        score = reading.index(estimate)  # (..., K)
        regions = score.shape[-1]
        gamma = self.gamma(regions)
        behind = reading.relative(score, mass) - 1 if self.ceiling is None else reading.gap(score, mass) / self.ceiling
        prior = reading.measure(mass, self.base)
        weight = prior * (behind * (gamma * self.horizon / regions)).exp()
        return torch.lerp(_normalised(weight), _normalised(prior).expand_as(weight), gamma)

    @classmethod
    def examples(cls) -> Iterable[Exp3]:
        return cls(), cls(horizon=1e6, base=0.0), cls(explore=0.3, base=0.5), cls(horizon=10, ceiling=2.0)


def _normalised(weight: Tensor) -> Tensor:
    return weight / weight.sum(-1, keepdim=True)
