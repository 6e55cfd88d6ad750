"""Reading a pool's embeddings in chunks, and distances to centroids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aria.pool import Pool

Rows = np.ndarray[Any, Any]
CELLS = 2**26
"""Largest number of distances in memory at a time: 256 MiB of float32."""
CHUNK = 65536
"""Rows read at a time."""


def read(pool: Pool, rows: slice | Rows, normalise: bool = False) -> Tensor:
    """(n, D) float32 embeddings of some conditions, on the CPU; ``rows`` ascend so that files are read forwards."""
    if pool.embeddings is None:
        raise ValueError("this partition needs embeddings, but the pool has none: pass Pool(embeddings=…)")
    part = pool.embeddings[rows]
    x = part.detach().cpu().float() if isinstance(part, Tensor) else torch.from_numpy(np.array(part, dtype=np.float32))
    bad = (~x.isfinite().all(1)).nonzero()
    if len(bad):
        row = int(bad[0]) + (rows.start or 0) if isinstance(rows, slice) else int(rows[int(bad[0])])
        raise ValueError(f"embeddings must be finite in float32, but the embedding of condition {row} is not")
    return x / x.norm(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny) if normalise else x


def chunks(pool: Pool, size: int, normalise: bool = False) -> Iterator[tuple[slice, Tensor]]:
    """All embeddings, ``size`` rows at a time."""
    for first in range(0, len(pool), size):
        rows = slice(first, min(first + size, len(pool)))
        yield rows, read(pool, rows, normalise)


def sample(rows: Rows, size: int, rng: np.random.Generator) -> Rows:
    """At most ``size`` of ``rows``, in ascending order."""
    return rows if len(rows) <= size else np.sort(rng.choice(rows, size, replace=False, shuffle=False))


def gather(pool: Pool, rows: Rows, size: int, normalise: bool = False) -> Tensor:
    """(n, D) embeddings of ascending ``rows``, read ``size`` at a time."""
    return torch.cat([read(pool, rows[first : first + size], normalise) for first in range(0, len(rows), size)])


def dimension(pool: Pool, expected: int) -> None:
    """Raise if the embeddings have a different dimension from those the partition was fitted on."""
    if pool.embeddings is not None and pool.embeddings.shape[1] != expected:
        raise ValueError(f"the partition was fitted on {expected} dimensions, the pool has {pool.embeddings.shape[1]}")


def distances(x: Tensor, centroids: Tensor) -> Tensor:
    r"""(n, K) squared distances minus :math:`|x|^2`, which does not affect comparisons between centroids.

    Both sides are shifted by the median centroid first: embeddings often share a large common part, in which
    :math:`|c|^2 - 2\,x\cdot c` would lose the differences. One centroid far away does not move the median.
    """
    middle = centroids.median(0).values
    c = centroids - middle
    return torch.addmm((c * c).sum(1), x - middle, c.T, alpha=-2)


def distinct(x: Tensor, enough: int) -> int:
    """Number of distinct rows of ``x`` (n, D), or at least ``enough`` where there are that many.

    Rows are compared by a 64-bit sum of their bits times fixed random odd numbers: exact integers, so equal
    rows are always equal, and different ones are mistaken for equal with probability 2⁻⁶³ or less per pair.
    """
    odd = np.random.default_rng(0).integers(2**63, size=x.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    found: set[int] = set()
    for part in torch.split(x, 4096):
        bits = (part + 0.0).numpy().view(np.uint32).astype(np.uint64)  # + 0.0: the two zeros are one number
        found.update(np.unique((bits * odd).sum(1)).tolist())
        if len(found) >= enough:
            break
    return len(found)
