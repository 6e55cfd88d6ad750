"""Effort on the worst regions only."""

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
class TopFraction(Allocator):
    r"""The base measure on the regions of the largest values, and nothing elsewhere.

    .. math:: q_k \propto p_k^{base}\; 1[m_k \ge m_{(n)}], \qquad n = \lceil fraction \cdot K' \rceil

    with :math:`K'` the number of regions that have mass and :math:`m_{(n)}` the n-th largest of their values. All
    regions tied at the threshold are taken, so the order of the regions does not matter; unseen regions count as tied
    with the largest. After K. Kawaguchi, H. Lu, "Ordered SGD", AISTATS 2020, arXiv 1907.04371, which keeps the
    samples of the largest losses.

    >>> import torch
    >>> estimate = Estimate(torch.tensor([1.0, 4.0, 2.0, 3.0]), torch.zeros(4))
    >>> TopFraction(fraction=0.5)(estimate, torch.tensor([0.4, 0.1, 0.2, 0.3]))
    tensor([0.0000, 0.1000, 0.0000, 0.3000])
    """

    fraction: float = 0.1
    base: float = 1.0

    def __post_init__(self) -> None:
        checks.half_open_unit("fraction", self.fraction)
        checks.non_negative("base", self.base)

    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        present = mass.sign().expand(estimate.value.shape)  # (..., K)
        ratio = reading.relative(reading.index(estimate), mass) * present
        count = present.sum(-1, keepdim=True).double()  # (..., 1)
        wanted = (self.fraction * count - 1e-9).ceil().long().clamp(min=1)  # 0.07 * 100 is 7, not 8
        largest = ratio.topk(math.ceil(self.fraction * ratio.shape[-1])).values  # in descending order
        threshold = torch.take_along_dim(largest, wanted - 1, dim=-1)
        return reading.measure(mass, self.base) * (ratio >= threshold)

    @classmethod
    def examples(cls) -> Iterable[TopFraction]:
        return cls(), cls(fraction=0.5, base=0.0), cls(fraction=1.0, base=0.5)
