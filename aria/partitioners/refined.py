"""A partition with split regions: the original rule, followed by the splits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aria.partitioners.embeddings import CHUNK, chunks, dimension
from aria.partitioners.fitted import Fitted
from aria.pool import Pool


@dataclass(frozen=True, eq=False)
class RefinedPartition(Fitted, kind="refined"):
    """A partition some of whose regions were split in two, in one or more rounds.

    Split g of all rounds divides region ``split[g]``: conditions nearer to ``right[g]`` than to ``left[g]`` move to
    the new region K₀ + g, where K₀ is the number of regions of ``base``; the others stay.
    """

    base: Fitted
    split: Tensor  # (S,) int64, region that each split divides
    left: Tensor  # (S, D) float32, centroid of what stays
    right: Tensor  # (S, D) float32, centroid of what moves
    rounds: tuple[int, ...]  # splits in each round; within a round they divide different regions

    def assign(self, pool: Pool, **coords: Tensor) -> Tensor:
        """(N,) the region of ``base``, refined by the splits."""
        region = self.base.assign(pool, **coords)
        return descend(pool, region, self.base.num_regions, self.split, self.left, self.right, self.rounds)

    def names(self) -> list[str]:
        """The name of the original region, followed at each split by 0 if the condition stayed and by 1 if it moved."""
        names = self.base.names()
        for region in self.split.tolist():
            names.append(f"{names[region]}.1")
            names[region] += ".0"
        return names

    def remoteness(self, pool: Pool) -> Tensor:
        """(N,) squared distance to the centroid of the half; for regions never split, that in ``base``."""
        centre = torch.full((self.num_regions,), -1)
        for g, region in enumerate(self.split.tolist()):
            centre[region], centre[self.base.num_regions + g] = g, len(self.split) + g
        centroids, near = torch.cat([self.left, self.right]), self.base.remoteness(pool)
        for rows, x in chunks(pool, CHUNK):
            own = centre.to(near.device)[self.members.row[rows].long()]
            near[rows] = torch.where(own < 0, near[rows], ((x.to(near.device) - centroids[own]) ** 2).sum(1))
        return near


def descend(
    pool: Pool, region: Tensor, regions: int, split: Tensor, left: Tensor, right: Tensor, rounds: tuple[int, ...]
) -> Tensor:
    """(N,) region after all rounds of splits of conditions that start in ``region`` (N,), one of ``regions``."""
    dimension(pool, left.shape[1])
    region = region.clone()
    starts = [sum(rounds[:i]) for i in range(len(rounds))]
    for rows, x in chunks(pool, CHUNK):
        x = x.to(region.device)
        for start, size in zip(starts, rounds):
            region[rows] = _one_round(x, region[rows], regions, start, split[: start + size], left, right)
    return region


def _one_round(
    x: Tensor, region: Tensor, regions: int, start: int, split: Tensor, left: Tensor, right: Tensor
) -> Tensor:
    """(n,) regions after the splits from ``start`` on; a round splits no region twice, so they apply at once."""
    which = torch.full((regions + start,), -1, device=region.device)
    which[split[start:]] = torch.arange(start, len(split), device=region.device)
    own = which[region]  # (n,) the split of each region in this round, -1 if there is none
    moves = (own >= 0) & nearer_right(x, left[own], right[own])
    return torch.where(moves, regions + own, region)


def nearer_right(x: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """(n,) whether each ``x`` (n, D) is nearer to ``right`` than to ``left``, (D,) or (n, D)."""
    return ((x - (left + right) / 2) * (right - left)).sum(1) > 0
