"""The trivial partition: everything is one region."""

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
    """One region with the whole pool, so that every allocation equals the pool's distribution.

    This is the control arm: a sampler's gain over it is due to distinguishing regions.

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

    def __post_init__(self) -> None:
        if self.members.rows != 1:
            raise ValueError(f"one_region: there is one region, got {self.members.rows} rows")
        super().__post_init__()

    def assign(self, pool: Pool, **coords: Tensor) -> Tensor:
        """(N,) zeros."""
        return torch.zeros(len(pool), dtype=torch.int64, device=self.mass.device)

    def names(self) -> list[str]:
        """The name of the only region."""
        return ["everything"]
