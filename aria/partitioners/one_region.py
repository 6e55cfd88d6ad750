"""The null partition: everything is one region."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aria.interfaces import Partitioner
from aria.partitioners.fitted import Fitted
from aria.partitioners.tables import Members
from aria.pool import Pool


@dataclass(frozen=True)
class OneRegion(Partitioner):
    """One region that holds the whole pool, so that every allocation is the pool's own.

    The control arm: what a sampler gains over it is gained by telling regions apart.

    >>> partition = OneRegion().fit(Pool(size=5))
    >>> partition.mass.tolist()
    [1.0]
    """

    def fit(self, pool: Pool) -> WholePool:
        """One region; its conditions are drawn by pool weight."""
        return WholePool(Members.build(torch.zeros(len(pool)), 1, pool.weight))


@dataclass(frozen=True, eq=False)
class WholePool(Fitted, kind="oneregion"):
    """The partition of :class:`OneRegion`."""

    def assign(self, pool: Pool, **coords: Tensor) -> Tensor:
        """(N,) zeros."""
        return torch.zeros(len(pool), dtype=torch.int64, device=self.mass.device)

    def names(self) -> list[str]:
        """What the one region is called."""
        return ["everything"]
