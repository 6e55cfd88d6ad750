"""Effort that keeps the importance-weighted objective's variance smallest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from aria import checks
from aria.allocators import reading
from aria.interfaces import Allocator, Estimate


@dataclass(frozen=True)
class Neyman(Allocator):
    r"""The base measure times the root of the second moment; feed it by the tracker ``second_moment(of=...)``.

    .. math:: q_k \propto p_k^{base} \sqrt{v_k}, \qquad v_k = E[Y^2 \mid k]

    With ``base=1`` and weights :math:`p_k/q_k` this is the allocation of the smallest variance: for every other
    :math:`q`

    .. math:: \sum_k \frac{p_k^2 v_k}{q_k}
              = \Big(\sum_k p_k\sqrt{v_k}\Big)^2 \Big(1 + \sum_k \frac{(q^*_k-q_k)^2}{q_k}\Big),

    and estimates of :math:`\sqrt{v}` that are right within a factor :math:`1 \pm \epsilon` cost at most a factor
    :math:`1/(1-\epsilon^2)`. After J. Neyman, "On the Two Different Aspects of the Representative Method", Journal of
    the Royal Statistical Society 97, 1934.

    >>> import torch
    >>> q = Neyman()(Estimate(torch.tensor([1.0, 9.0]), torch.zeros(2)), torch.tensor([0.5, 0.5]))
    >>> q / q.sum()
    tensor([0.2500, 0.7500])
    """

    base: float = 1.0

    def __post_init__(self) -> None:
        checks.non_negative("base", self.base)

    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return reading.tilt(reading.index(estimate), mass, power=0.5, base=self.base)

    @classmethod
    def examples(cls) -> Iterable[Neyman]:
        return cls(), cls(base=0.0), cls(base=0.5)
