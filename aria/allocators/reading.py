r"""How every rule reads an estimate.

* A region whose score is not finite has never been *seen* (``stderr = inf``, or no usable value). It is read as the
  largest score among the seen regions of its replica: optimism that has no scale of its own.
* A negative score is read as zero: discrepancies are not negative, their noisy estimates may be.
* A region without mass can never be drawn, so it neither gets weight nor sets the scale.
* Only ratios to the largest score are used, so scores of ``1e300`` or ``1e-300`` neither overflow nor vanish.
* Where the scores say nothing (all zero, nothing seen) every region reads 1 and the base measure is left.

There are no masks here: on a CPU ``torch.where`` over an irregular mask costs ten times an addition. What is unseen
turns into NaN by ``0 * inf``, runs through the arithmetic, and is replaced at the end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aria.interfaces import Estimate

__all__ = ["gap", "index", "measure", "relative", "tilt"]


def measure(mass: Tensor, base: float) -> Tensor:
    """The base measure ``mass ** base``, of the shape of ``mass``; ``base=0`` is 1 for every non-empty region.

    >>> measure(torch.tensor([0.64, 0.36, 0.0]), base=0.5)
    tensor([0.8000, 0.6000, 0.0000])
    """
    if base == 0:
        return mass.sign()
    if base == 0.5:
        return mass.sqrt()
    if base == 1:
        return mass
    return (mass / mass.amax(-1, keepdim=True)).pow(base)  # against underflow at large bases


def index(estimate: Estimate, bonus: float = 0.0) -> Tensor:
    """(..., K) ``value + bonus * stderr``; not finite where unseen, even for ``bonus=0``, as ``0 * inf`` is NaN."""
    return torch.add(estimate.value, estimate.stderr, alpha=bonus)


def relative(score: Tensor, mass: Tensor) -> Tensor:
    """(..., K) score over the largest score of its replica, in [0, 1]; 1 where unseen and where all scores are zero.

    >>> relative(torch.tensor([1.0, 4.0, -2.0, torch.inf]), torch.ones(4))
    tensor([0.2500, 1.0000, 0.0000, 1.0000])
    """
    seen, top = _seen(score, mass)
    return seen.div_(top).nan_to_num_(nan=1.0)


def gap(score: Tensor, mass: Tensor) -> Tensor:
    """(..., K) score minus the largest score of its replica, never positive; 0 where unseen.

    >>> gap(torch.tensor([1.0, 4.0, -2.0, torch.inf]), torch.ones(4))
    tensor([-3.,  0., -4.,  0.])
    """
    seen, top = _seen(score, mass)
    return seen.sub_(top).nan_to_num_(nan=0.0)


def tilt(score: Tensor, mass: Tensor, power: float, base: float) -> Tensor:
    """(..., K) the base measure tilted towards large scores: ``mass ** base * relative(score) ** power``."""
    ratio = relative(score, mass)
    return (ratio if power == 1 else ratio.pow_(power)).mul_(measure(mass, base))


def _seen(score: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """(..., K) scores, NaN where unseen and 0 where there is no mass; (..., 1) the largest, 0 if nothing is seen."""
    seen = score.clamp(min=0).mul_(mass.sign()).add_(score, alpha=0)  # 0 times what is not finite is NaN
    return seen, seen.nan_to_num(nan=0.0).amax(-1, keepdim=True)
