"""Effort by an optimistic index."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from aria import checks
from aria.allocators import reading
from aria.interfaces import Allocator, Estimate


@dataclass(frozen=True)
class UCB(Allocator):
    r"""The base measure times a power of the upper confidence bound.

    .. math:: q_k \propto p_k^{base}\, (m_k + scale \cdot s_k)^{power}

    with :math:`s_k` the standard error or, from the trackers ``discounted_ucb`` and ``window_ucb``, the confidence
    radius. What is little known gets more effort until it is known. Unlike a bandit's, the index is shared out
    instead of maximised, since a training batch serves many regions at once; a large ``power`` comes back to the
    maximum. The index is that of P. Auer, N. Cesa-Bianchi, P. Fischer, "Finite-time Analysis of the Multiarmed Bandit
    Problem", Machine Learning 47, 2002.

    >>> import torch
    >>> q = UCB(scale=2.0)(Estimate(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0])), torch.tensor([0.5, 0.5]))
    >>> q / q.sum()
    tensor([0.2500, 0.7500])
    """

    scale: float = 1.0
    power: float = 1.0
    base: float = 1.0

    def __post_init__(self) -> None:
        checks.non_negative("scale", self.scale)
        checks.non_negative("power", self.power)
        checks.non_negative("base", self.base)

    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return reading.tilt(reading.index(estimate, self.scale), mass, self.power, self.base)

    @classmethod
    def examples(cls) -> Iterable[UCB]:
        return cls(), cls(scale=0.0), cls(scale=3.0, power=2.0, base=0.0), cls(scale=0.5, power=0.5, base=0.5)
