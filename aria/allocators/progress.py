"""Effort where the discrepancy is moving."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from aria import checks
from aria.allocators import reading
from aria.interfaces import Allocator, Estimate


@dataclass(frozen=True)
class Progress(Allocator):
    r"""The base measure times the significant part of a slope; feed it by the tracker ``progress(of=...)``.

    .. math:: q_k \propto p_k^{base} \max(|g_k| - shrink \cdot s_k,\ 0)

    A region earns effort by changing, not by being bad: one that cannot be learnt has a large discrepancy and no
    slope. A discrepancy that rises is progress lost and counts as well. Slopes within ``shrink`` standard errors
    :math:`s_k` of zero are noise and get nothing beyond the sampler's floor; where no slope stands out, the base
    measure is left. After P.-Y. Oudeyer, F. Kaplan, V. Hafner, "Intrinsic Motivation Systems for Autonomous Mental
    Development", IEEE Transactions on Evolutionary Computation 11, 2007.

    >>> import torch
    >>> estimate = Estimate(torch.tensor([0.4, -0.2, 0.05]), torch.tensor([0.1, 0.1, 0.1]))
    >>> q = Progress()(estimate, torch.full((3,), 1 / 3))
    >>> q / q.sum()
    tensor([0.7500, 0.2500, 0.0000])
    """

    shrink: float = 1.0
    base: float = 1.0

    def __post_init__(self) -> None:
        checks.non_negative("shrink", self.shrink)
        checks.non_negative("base", self.base)

    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        significant = torch.add(estimate.value.abs(), estimate.stderr, alpha=-self.shrink)  # (..., K)
        return reading.tilt(significant, mass, power=1, base=self.base)

    @classmethod
    def examples(cls) -> Iterable[Progress]:
        return cls(), cls(shrink=0.0, base=0.0), cls(shrink=2.0, base=0.5)
