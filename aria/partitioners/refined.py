"""A partition with split regions: the original rule, followed by the splits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aria.fields import short
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

    def __post_init__(self) -> None:
        count, kept = len(self.split), self.base.num_regions if isinstance(self.base, Fitted) else 0
        if not kept or self.base.coordinates or self.members.size != self.base.members.size:
            raise ValueError("refined: the base must be a partition of the same conditions, and of nothing else")
        if self.members.rows != kept + count or self.split.dtype != torch.int64 or self.split.ndim != 1:
            raise ValueError(f"refined: {count} splits of {kept} regions make another number than {self.members.rows}")
        if not isinstance(self.rounds, tuple) or sum(self.rounds) != count or any(size < 1 for size in self.rounds):
            raise ValueError(f"refined: the rounds must have {count} splits together, got {short(self.rounds)}")
        if bool(((self.split < 0) | (self.split >= kept + torch.arange(count).to(self.split))).any()):
            raise ValueError("refined: each split must divide a region that there is before it")
        for part in (self.left, self.right):
            if part.ndim != 2 or part.shape != self.left.shape or len(part) != count or part.dtype != torch.float32:
                raise ValueError(f"refined: {count} splits need as many centroids, got {tuple(part.shape)}")
        super().__post_init__()

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
        dimension(pool, self.left.shape[1])
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
