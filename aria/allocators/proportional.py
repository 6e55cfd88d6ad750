"""Effort in proportion to the discrepancy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from aria import checks
from aria.allocators import reading
from aria.interfaces import Allocator, Estimate


@dataclass(frozen=True)
class Proportional(Allocator):
    r"""The base measure times a power of the value.

    .. math:: q_k \propto p_k^{base}\, m_k^{power}

    ``base`` sets the target (1: the pool, 0: all regions equally), ``power`` how strongly effort follows the value.
    With ``power=1`` the map is gentle: with :math:`c_k = p_k^{base} m_k`, estimates that give :math:`c` and :math:`c'`
    have allocations within :math:`|c-c'|_1 / \max(\sum c, \sum c')` of each other in total variation. As ``power``
    grows it tends to the region of the largest value alone. After A. Katharopoulos, F. Fleuret, "Not All Samples Are
    Created Equal: Deep Learning with Importance Sampling", ICML 2018, arXiv 1803.00942, where the regions are single
    samples.

    >>> import torch
    >>> q = Proportional()(Estimate(torch.tensor([1.0, 3.0]), torch.zeros(2)), torch.tensor([0.5, 0.5]))
    >>> q / q.sum()
    tensor([0.2500, 0.7500])
    """

    power: float = 1.0
    base: float = 1.0

    def __post_init__(self) -> None:
        checks.non_negative("power", self.power)
        checks.non_negative("base", self.base)

    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return reading.tilt(reading.index(estimate), mass, self.power, self.base)

    @classmethod
    def examples(cls) -> Iterable[Proportional]:
        return cls(), cls(power=0.0), cls(power=0.5, base=0.0), cls(power=2.0, base=0.5), cls(power=40.0, base=3.0)
