r"""Which entries of a wide axis stay in a narrow one.

An axis that shrinks from :math:`W` to :math:`N` entries is cut into :math:`\gcd(W, N)` equal parts, the finest that
both have, and every part keeps its leading entries. So the groups of GroupNorm, the heads of an attention, the values
and gates of a feed-forward layer, and the sines and cosines of the timestep, whose numbers divide both :math:`W` and
:math:`N`, each keep entries of their own; sinusoids keep their frequencies to within one step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Run:
    """A stretch of an axis that shrinks from ``wide`` to ``narrow`` entries."""

    wide: int
    narrow: int
    whole: bool = False
    """Whether it is one part."""

    @property
    def parts(self) -> int:
        return 1 if self.whole else math.gcd(self.wide, self.narrow)

    def index(self) -> Tensor:
        """The entries that stay.

        >>> Run(8, 6).index().tolist(), Run(8, 6, whole=True).index().tolist()
        ([0, 1, 2, 4, 5, 6], [0, 1, 2, 3, 4, 5])
        """
        starts = torch.arange(self.parts)[:, None] * (self.wide // self.parts)
        return (starts + torch.arange(self.narrow // self.parts)).flatten()  # (narrow,)
