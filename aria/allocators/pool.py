"""The pool's own distribution: random conditioning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from aria import checks
from aria.allocators import reading
from aria.interfaces import Allocator, Estimate


@dataclass(frozen=True)
class Pool(Allocator):
    r"""Effort in proportion to a power of the mass, whatever has been learnt.

    .. math:: q_k \propto p_k^{base}

    ``base=1`` draws conditions uniformly from the pool, as random conditioning does ("Random Conditioning with
    Distillation for Data-Efficient Diffusion Model Compression", CVPR 2025, arXiv 2504.02011); ``base=0.5``, the square
    root of the pool, is a balance between the pool and its rare regions; ``base=0`` is uniform over regions.

    >>> import torch
    >>> Pool(base=0.5)(Estimate(torch.zeros(2), torch.zeros(2)), torch.tensor([0.81, 0.09]))
    tensor([0.9000, 0.3000])
    """

    base: float = 1.0

    def __post_init__(self) -> None:
        checks.non_negative("base", self.base)

    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return reading.measure(mass, self.base).expand(estimate.value.shape).clone()

    @classmethod
    def examples(cls) -> Iterable[Pool]:
        return cls(), cls(base=0.0), cls(base=0.5), cls(base=3.0)
