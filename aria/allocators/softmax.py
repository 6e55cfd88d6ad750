"""Effort by a softmax of the value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from aria import checks
from aria.allocators import reading
from aria.interfaces import Allocator, Estimate


@dataclass(frozen=True)
class Softmax(Allocator):
    r"""The base measure times an exponential of the value.

    .. math:: q_k \propto p_k^{base} \exp\!\left(\frac{m_k}{temperature \cdot scale}\right)

    ``scale=None`` takes the mean value under the base measure, so that the rule has no unit; a number fixes the unit,
    which makes the allocation sharpen or flatten as all values rise or fall together. With a fixed scale and
    :math:`T = temperature \cdot scale`, two estimates move the allocation in total variation by at most
    :math:`\tanh(|m-m'|_\infty / 2T)`. The Boltzmann rule of R. S. Sutton, A. G. Barto, "Reinforcement Learning", 2nd
    ed., section 2.8, with the base measure as its prior.

    >>> import torch
    >>> estimate = Estimate(torch.tensor([1.0, 3.0]), torch.zeros(2))
    >>> q = Softmax(temperature=2.0)(estimate, torch.tensor([0.5, 0.5]))  # exp(1/4) : exp(3/4)
    >>> q / q.sum()
    tensor([0.3775, 0.6225])
    """

    temperature: float = 1.0
    scale: float | None = None
    base: float = 1.0

    def __post_init__(self) -> None:
        checks.positive("temperature", self.temperature)
        if self.scale is not None:
            checks.positive("scale", self.scale)
        checks.non_negative("base", self.base)

    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        score = reading.index(estimate)  # (..., K)
        prior = reading.measure(mass, self.base)
        if self.scale is None:
            ratio = reading.relative(score, mass)
            mean = (prior * ratio).sum(-1, keepdim=True) / prior.sum(-1, keepdim=True)
            logit = (ratio - 1) / self.temperature / mean
        else:
            logit = reading.gap(score, mass) / self.temperature / self.scale
        return prior * logit.exp()

    @classmethod
    def examples(cls) -> Iterable[Softmax]:
        return cls(), cls(temperature=0.1, base=0.0), cls(temperature=3.0, base=0.5), cls(scale=1.0), cls(scale=1e-3)
