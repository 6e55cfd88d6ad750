"""Summaries of regions: size, mass, name and nearest prompts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch

from aria.partitioners.fitted import Fitted
from aria.pool import Pool


class RegionSummary(NamedTuple):
    """A summary of one region."""

    region: int
    size: int
    """Number of conditions in it, including those with weight zero."""
    mass: float
    """Its share of the target distribution."""
    name: str
    nearest: tuple[int, ...]
    """Conditions nearest to its centroid, or those with the largest weight if it has no centroid."""
    texts: tuple[str, ...]
    """Their prompts, if the pool has texts."""


def describe(partition: Fitted, pool: Pool, nearest: int = 3) -> list[RegionSummary]:
    """Size, mass, name and the ``nearest`` prompts of each region, over the pool the partition was fitted on.

    Embeddings are read in chunks; memory is O(N + K).

    >>> from aria.partitioners import Labels
    >>> pool = Pool(texts=["a cat", "a cat in ink", "a dog"], columns={"style": ["photo", "ink", "photo"]})
    >>> describe(Labels("style").fit(pool), pool)[1]
    RegionSummary(region=1, size=2, mass=0.67, name='style=photo', nearest=(0, 2), texts=('a cat', 'a dog'))
    """
    members = partition.members
    if len(pool) != members.size:
        raise ValueError(f"describe needs the fitted pool of {members.size} conditions, got a pool of {len(pool)}")
    if nearest < 0:
        raise ValueError(f"nearest must be at least 0, got {nearest}")
    order = members.order.cpu().numpy()
    start = members.start.tolist()
    distance = partition.remoteness(pool).cpu().numpy()[order]
    weight = np.ones(len(order)) if members.weight is None else members.weight.cpu().numpy()[order]
    order = order[np.lexsort((order, -weight, distance, members.row.cpu().numpy()[order]))]
    cells = partition.cell(torch.arange(partition.num_regions, device=partition.mass.device)).tolist()
    sizes, masses = members.count().tolist(), partition.mass.tolist()
    summaries = []
    for region, (cell, name) in enumerate(zip(cells, partition.names(), strict=True)):
        few = tuple(order[start[cell] : min(start[cell] + nearest, start[cell + 1])].tolist())
        texts = () if pool.texts is None else tuple(str(pool.texts[i]) for i in few)
        summaries.append(RegionSummary(region, sizes[cell], masses[region], name, few, texts))
    return summaries


def describe_table(summaries: Iterable[RegionSummary], width: int = 100) -> str:
    """The summaries as plain text, one line per region, at most ``width`` characters wide.

    >>> print(describe_table([RegionSummary(0, 2, 0.25, "style=ink", (4, 7), ("a cat", "a dog"))]))
    region  size    mass  name       nearest
         0     2  0.2500  style=ink  a cat | a dog
    """
    rows = [("region", "size", "mass", "name", "nearest")]
    for one in summaries:
        shown = " | ".join(one.texts) if one.texts else ", ".join(f"#{i}" for i in one.nearest)
        rows.append((str(one.region), str(one.size), f"{one.mass:.4f}", one.name, " ".join(shown.split())))
    a, b, c, d = (max(len(row[i]) for row in rows) for i in range(4))
    lines = [f"{r:>{a}}  {s:>{b}}  {m:>{c}}  {n:<{d}}  {t}" for r, s, m, n, t in rows]
    return "\n".join(line.rstrip() if len(line) <= width else line[: width - 1] + "…" for line in lines)
