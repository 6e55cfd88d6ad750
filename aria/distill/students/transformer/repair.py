r"""The linear map that comes closest to a block: ridge regression of what the block adds on what it is given.

With inputs :math:`x` and changes :math:`y = f(x) - x` of all tokens,

.. math:: W = (C_{xx} + \lambda\,\mathrm{diag}\,C_{xx})^{-1} C_{xy}, \qquad b = \bar y - \bar x W

where :math:`C` are covariances. The penalty is relative to the variance of each channel, since a few channels of
trained transformers are far larger than the others, and it shrinks the map :math:`x \mapsto x + xW + b` to a skipped
block.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

STRENGTH = 0.1
""":math:`\\lambda`. There may be fewer tokens than channels, those of a few prompts: on the trained teachers of this
package, maps fitted with 0.01 fail on other images where tokens are few, and beyond 0.3 they are too close to a skipped
block where tokens are many."""


@dataclass(frozen=True, eq=False)
class LinearRepair:
    """A map in the place of a block."""

    weight: Tensor  # (D, D)
    bias: Tensor  # (D,)

    def __call__(self, given: Tensor) -> Tensor:
        """(…, D)"""
        return (given + given.float() @ self.weight + self.bias).to(given.dtype)


@dataclass(eq=False)
class Moments:
    """Sums over tokens, all that the regression needs of them.

    >>> moments = Moments()
    >>> x = torch.tensor([[0.0], [1.0], [2.0]])
    >>> moments.add(x, 3 * x + 1)
    >>> repair = moments.solve(strength=0.0)
    >>> repair(torch.tensor([[10.0]])).item()
    31.0
    """

    count: int = 0
    sums: tuple[Tensor, ...] = field(default=())
    """Of inputs, of changes, of products of inputs, and of inputs and changes."""
    origin: Tensor | None = None
    """(D,) the mean of the first inputs, which is subtracted from all: products of centred numbers lose no digits."""

    def add(self, given: Tensor, output: Tensor) -> None:
        """Count the tokens of a batch: (…, D) what entered a block, and what left it."""
        x, y = given.float().flatten(0, -2), (output.float() - given.float()).flatten(0, -2)
        self.origin = x.mean(0) if self.origin is None else self.origin
        x = x - self.origin
        found = [part.double() for part in (x.sum(0), y.sum(0), x.T @ x, x.T @ y)]
        self.sums = tuple(a + b for a, b in zip(self.sums, found, strict=True)) if self.sums else tuple(found)
        self.count += len(x)

    def solve(self, strength: float = STRENGTH) -> LinearRepair:
        """The map for a penalty of ``strength``."""
        x, y, xx, xy = (total / self.count for total in self.sums)
        covariance, cross = xx - x.outer(x), xy - x.outer(y)
        variance = covariance.diagonal()
        penalty = strength * variance + 1e-9 * variance.max() + torch.finfo(torch.float32).tiny  # of constant channels
        weight = torch.linalg.solve(covariance + penalty.diag(), cross)
        assert self.origin is not None
        return LinearRepair(weight.float(), (y - (x + self.origin) @ weight).float())
