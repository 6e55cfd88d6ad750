"""Splitting regions whose two halves have different discrepancies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aria.interfaces import Partition
from aria.partitioners.embeddings import CHUNK, distinct, gather, read, sample
from aria.partitioners.fitted import Fitted
from aria.partitioners.kmeans import cluster
from aria.partitioners.refined import RefinedPartition, descend, nearer_right
from aria.partitioners.tables import Members
from aria.pool import Pool

SAMPLE, BATCH = 8192, 1024


def refine(
    partition: Partition,
    pool: Pool,
    index: Tensor,
    values: Tensor,
    *,
    false_alarm: float = 0.01,
    min_size: int = 32,
    min_seen: int = 16,
    max_regions: int | None = None,
    seed: int = 0,
) -> tuple[Partition, Tensor]:
    r"""Split the regions in which the discrepancy differs between two halves.

    Conditions ``index`` (M,) of ``pool`` were observed with discrepancies ``values`` (M,). Each region is halved by
    2-means over its embeddings, without looking at the values, and the halves are compared by Welch's test,

    .. math:: t = \frac{\bar y_1 - \bar y_2}{\sqrt{s_1^2/n_1 + s_2^2/n_2}},

    where every condition counts once with the mean :math:`y` of its values. A region is split if the test's
    two-sided p-value is below ``false_alarm`` divided by the number of regions tested (Bonferroni). If all regions are
    homogeneous, the probability that a call splits anything is therefore at most ``false_alarm`` (for normal
    :math:`y`; nearly so for others, the more were observed the better). Each half needs ``min_size`` conditions, of
    which ``min_seen`` were observed. If ``max_regions`` limits the number of splits, the most significant are made.

    Returns the new partition and ``parent`` (K',): region k was part of region ``parent[k]``. Old regions keep their
    number and new ones are appended, so ``state[..., parent]`` carries over a tracker's state.

    >>> embeddings = torch.linspace(-1, 1, 200).unsqueeze(1)
    >>> pool = Pool(embeddings=embeddings)
    >>> values = (embeddings[:, 0] > 0) + 0.1 * torch.randn(200, generator=torch.Generator().manual_seed(0))
    >>> from aria.partitioners import OneRegion
    >>> partition, parent = refine(OneRegion().fit(pool), pool, torch.arange(200), values)
    >>> partition.names(), partition.mass.tolist(), parent.tolist()
    (['everything.0', 'everything.1'], [0.5, 0.5], [0, 0])
    """
    if not 0 < false_alarm < 1:
        raise ValueError(f"refine: false_alarm must be between 0 and 1, got {false_alarm}")
    for name, given, least in (("min_size", min_size, 1), ("min_seen", min_seen, 2)):
        if given < least:
            raise ValueError(f"refine: {name} must be at least {least}, got {given}")
    table = _refinable(partition, pool)
    mean, seen = _per_condition(len(pool), index, values)
    tried = [
        half
        for region in range(table.num_regions)
        if (half := _halve(table.members, region, pool, seen, min_size, min_seen, seed)) is not None
    ]
    chances = [(welch(mean[half.stays], mean[half.moves]), half) for half in tried]
    found = sorted((chance, half.region, half) for chance, half in chances if chance < false_alarm / len(tried))
    room = len(found) if max_regions is None else max(max_regions - table.num_regions, 0)
    made = sorted((half for _, _, half in found[:room]), key=lambda half: half.region)
    parent = torch.tensor([*range(table.num_regions), *(half.region for half in made)])
    refined = _split(table, pool, made).to(partition.mass.device) if made else partition
    return refined, parent.to(partition.mass.device)


class Half(NamedTuple):
    """A possible split of a region, and the observed conditions on either side."""

    region: int
    left: Tensor  # (D,) centroid of the larger half, which keeps the number
    right: Tensor  # (D,)
    stays: Tensor  # (n1,) observed conditions of the larger half
    moves: Tensor  # (n2,) and of the other


def _halve(
    members: Members, region: int, pool: Pool, seen: Tensor, min_size: int, min_seen: int, seed: int
) -> Half | None:
    """Halve a region by 2-means over its embeddings; None if a half would be too small for the test."""
    rows = members.order[members.start[region] : members.start[region + 1]].long()
    if len(rows) < 2 * min_size or int(seen[rows].sum()) < 2 * min_seen:
        return None
    x = gather(pool, sample(rows.numpy(), SAMPLE, np.random.default_rng(seed)), CHUNK)
    if distinct(x, 2) < 2:
        return None
    left, right = cluster(x, None, 2, BATCH, seed)
    if int(nearer_right(x, left, right).sum()) > len(x) // 2:
        left, right = right, left
    moves = torch.cat([nearer_right(read(pool, part.numpy()), left, right) for part in torch.split(rows, CHUNK)])
    first, second = rows[~moves], rows[moves]
    first_seen, second_seen = first[seen[first]], second[seen[second]]
    if min(len(first), len(second)) < min_size or min(len(first_seen), len(second_seen)) < min_seen:
        return None
    return Half(region, left, right, first_seen, second_seen)


def welch(first: Tensor, second: Tensor) -> float:
    """Two-sided p-value of Welch's test that the samples (n1,) and (n2,) have equal means.

    >>> round(welch(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 4.0, 5.0])), 3)
    0.071
    """
    from scipy.special import stdtr

    first, second = first.double(), second.double()
    a, b = first.var() / len(first), second.var() / len(second)
    rounding = 1e-12 * torch.cat([first, second]).abs().max() + 1e-300
    t = (first.mean() - second.mean()).abs() / ((a + b).sqrt() + rounding)
    freedom = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1) + 1e-300)
    return float(2 * stdtr(max(float(freedom), 1.0), -float(t)))


def _split(partition: Fitted, pool: Pool, made: list[Half]) -> RefinedPartition:
    """Another round of splits on top of the existing ones."""
    split = torch.tensor([half.region for half in made])
    left, right = torch.stack([half.left for half in made]), torch.stack([half.right for half in made])
    base: Fitted = partition
    rounds: tuple[int, ...] = (len(made),)
    if isinstance(partition, RefinedPartition):
        base, rounds = partition.base, partition.rounds + rounds
        split = torch.cat([partition.split, split])
        left, right = torch.cat([partition.left, left]), torch.cat([partition.right, right])
    region = descend(pool, base.locate(torch.arange(len(pool))), base.num_regions, split, left, right, rounds)
    members = Members.build(region, base.num_regions + len(split), partition.members.weight)
    return RefinedPartition(members, base, split, left, right, rounds)


def _refinable(partition: Partition, pool: Pool) -> Fitted:
    if not isinstance(partition, Fitted) or partition.coordinates:
        what = "one over a coordinate" if isinstance(partition, Fitted) else type(partition).__name__
        raise ValueError(f"refine splits a partition of the conditions alone, not {what}; refine it before the product")
    if len(pool) != partition.members.size:
        raise ValueError(f"refine needs the fitted pool of {partition.members.size} conditions, got one of {len(pool)}")
    return partition.to("cpu")


def _per_condition(size: int, index: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) mean of the values of each condition, and (N,) whether it was observed."""
    index, values = index.detach().cpu().long(), values.detach().cpu().double()
    if index.ndim != 1 or index.shape != values.shape:
        raise ValueError(f"index and values must be (M,) each, got {tuple(index.shape)} and {tuple(values.shape)}")
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < size:
        raise ValueError(f"index must be from 0 to {size - 1}, got {int(index.min())} to {int(index.max())}")
    if not bool(values.isfinite().all()):
        raise ValueError(f"values must be finite, got {values[~values.isfinite()][0].item()}")
    count = torch.bincount(index, minlength=size)
    return torch.bincount(index, weights=values, minlength=size) / count.clamp(min=1), count > 0
