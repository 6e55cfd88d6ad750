"""Every region equally likely."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from aria.allocators import reading
from aria.interfaces import Allocator, Estimate


@dataclass(frozen=True)
class Uniform(Allocator):
    r"""Every region that has mass gets the same share, whatever has been learnt.

    .. math:: q_k \propto 1[p_k > 0]

    The control arm for rules that favour rare regions: part of what those gain needs no estimate at all.

    >>> import torch
    >>> q = Uniform()(Estimate(torch.tensor([9.0, 1.0, 1.0]), torch.zeros(3)), torch.tensor([0.7, 0.3, 0.0]))
    >>> q / q.sum()
    tensor([0.5000, 0.5000, 0.0000])
    """

    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return reading.measure(mass, 0).expand(estimate.value.shape).clone()
