"""Regions by k-means over the pool's embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aria import checks
from aria.interfaces import Partitioner
from aria.partitioners.balance import balancing_offsets, balancing_rows
from aria.partitioners.embeddings import CELLS, chunks, dimension, distances, distinct, gather, sample
from aria.partitioners.fitted import Fitted
from aria.partitioners.tables import Members
from aria.pool import Pool

STEPS = 100
"""Number of mini-batches of a fit; benchmarks/kmeans.py shows what more would gain."""

WORTH_THREADS = 2**24
"""Multiplications per mini-batch above which threads help; below, synchronising them takes a hundred times as long."""


@dataclass(frozen=True)
class KMeans(Partitioner):
    r"""Regions are the cells of ``regions`` centroids :math:`c_k`, found by scikit-learn's mini-batch k-means:

    .. math:: k(x) = \arg\min_k |x - c_k|^2 + \psi_k , \qquad \psi = 0 \text{ unless } balanced.

    The fit uses at most ``sample`` embeddings, and the pool is then assigned ``chunk`` rows at a time, so the
    embeddings may be a memory-mapped file that is much larger than memory. A weighted pool is clustered by its weights.

    Reference: Sculley, "Web-scale k-means clustering", WWW 2010.

    >>> pool = Pool(embeddings=torch.tensor([[0.0], [0.1], [5.0], [5.1], [5.2]]))
    >>> partition = KMeans(regions=2).fit(pool)
    >>> sorted(partition.mass.tolist())
    [0.4, 0.6]
    """

    regions: int = 256
    """Number of centroids K."""
    seed: int = 0
    """The same pool and seed give the same regions."""
    batch: int = 4096
    """Number of embeddings in a mini-batch."""
    sample: int = 200_000
    """Number of embeddings used for the fit; a seeded random subset if the pool has more."""
    normalise: bool = False
    """Normalise embeddings to length one first, so that regions are cones."""
    balanced: float | None = None
    """Largest relative excess of a region over the mean region on the sample, e.g. 0.1; None does not balance sizes.
    On a larger pool, a region with n sampled conditions deviates by about :math:`1/\\sqrt n` more."""
    chunk: int = 65536
    """Rows read at a time."""

    def __post_init__(self) -> None:
        for name in ("regions", "batch", "sample", "chunk"):
            checks.whole(f"kmeans: {name}", getattr(self, name), least=1)
        checks.whole("kmeans: seed", self.seed, least=0)
        checks.flag("kmeans: normalise", self.normalise)
        if self.seed >= 2**32:
            raise ValueError(f"kmeans: seed must be below 2**32, got {self.seed!r}")
        if self.sample < self.regions:
            raise ValueError(f"kmeans: sample must be at least regions={self.regions}, got {self.sample}")
        if self.balanced is not None:
            checks.positive("kmeans: balanced", self.balanced)

    def fit(self, pool: Pool) -> ClusterPartition:
        """Find the centroids on a sample, then assign the whole pool to them."""
        x, weight = self._sample(pool)
        centroids = cluster(x, weight, self.regions, self.batch, self.seed)
        offset = torch.zeros(self.regions)
        if self.balanced is not None:
            points = slice(None, None, -(-len(x) // balancing_rows(self.regions)))
            share = torch.ones(len(x)) if weight is None else weight
            offset = balancing_offsets(x[points], centroids, share[points] / share[points].sum(), self.balanced)
        region = nearest(pool, centroids, offset, self.normalise, self.chunk)
        members = Members.build(region, self.regions, pool.weight)
        return ClusterPartition(members, centroids, offset, self.normalise, self.chunk)

    def _sample(self, pool: Pool) -> tuple[Tensor, Tensor | None]:
        """(n, D) embeddings to fit on and their weights (n,); conditions of weight zero are not used."""
        rows = np.arange(len(pool)) if pool.weight is None else np.flatnonzero(pool.weight.numpy())
        if self.regions > len(rows):
            raise ValueError(
                f"kmeans: regions={self.regions} needs as many conditions of positive weight, got {len(rows)}"
            )
        rows = sample(rows, self.sample, np.random.default_rng(self.seed))
        x = gather(pool, rows, self.chunk, self.normalise)
        if (found := distinct(x, self.regions)) < self.regions:
            raise ValueError(f"kmeans: regions={self.regions} needs as many distinct embeddings, found {found}")
        return x, None if pool.weight is None else pool.weight[rows]

    @classmethod
    def examples(cls) -> tuple[KMeans, ...]:
        """Small enough for the built-in pool."""
        return cls(regions=6), cls(regions=4, normalise=True, balanced=0.25, chunk=50)


@dataclass(frozen=True, eq=False)
class ClusterPartition(Fitted, kind="kmeans"):
    """The partition of :class:`KMeans`: the cells of its centroids, which also cover new prompts."""

    centroids: Tensor  # (K, D) float32
    offset: Tensor  # (K,) float32, ψ
    normalise: bool
    chunk: int

    def __post_init__(self) -> None:
        many, centroids, offset = self.members.rows, self.centroids, self.offset
        if centroids.ndim != 2 or len(centroids) != many or offset.shape != (many,):
            got = f"{tuple(centroids.shape)} and {tuple(offset.shape)}"
            raise ValueError(f"kmeans: {many} regions need as many centroids and offsets, got {got}")
        if any(part.dtype != torch.float32 or not bool(part.isfinite().all()) for part in (centroids, offset)):
            raise ValueError("kmeans: centroids and offsets must be finite numbers in float32")
        checks.flag("kmeans: normalise", self.normalise)
        checks.whole("kmeans: chunk", self.chunk, least=1)
        super().__post_init__()

    def assign(self, pool: Pool, **coords: Tensor) -> Tensor:
        """(N,) region of the nearest centroid."""
        return nearest(pool, self.centroids, self.offset, self.normalise, self.chunk)

    def names(self) -> list[str]:
        """Clusters only have numbers; look at their nearest prompts to see what they contain."""
        return [f"cluster {region}" for region in range(self.num_regions)]

    def remoteness(self, pool: Pool) -> Tensor:
        """(N,) squared distance of each condition to the centroid of its region."""
        dimension(pool, self.centroids.shape[1])
        region = self.members.row.long()
        parts = chunks(pool, self.chunk, self.normalise)
        return torch.cat([((x.to(self.mass.device) - self.centroids[region[rows]]) ** 2).sum(1) for rows, x in parts])


def cluster(x: Tensor, weight: Tensor | None, regions: int, batch: int, seed: int) -> Tensor:
    """(K, D) centroids of ``x`` (n, D); the number of steps is fixed, so rounding cannot affect when it stops."""
    try:
        from sklearn.cluster import MiniBatchKMeans
        from threadpoolctl import threadpool_limits  # comes with scikit-learn
    except ModuleNotFoundError as error:  # another error of its import, such as too little memory, is shown as it is
        raise ImportError("clustering needs scikit-learn: pip install 'aria-distill[kmeans]'") from error
    batch = min(batch, len(x))
    model = MiniBatchKMeans(
        regions,
        batch_size=batch,
        max_iter=-(-STEPS * batch // len(x)),
        init_size=min(3 * max(batch, regions), len(x)),
        n_init=1,
        max_no_improvement=None,
        tol=0.0,
        compute_labels=False,
        random_state=seed,
    )
    with threadpool_limits(1 if batch * regions * x.shape[1] < WORTH_THREADS else None):
        model.fit(x.numpy(), sample_weight=None if weight is None else weight.numpy())
    return torch.from_numpy(np.array(model.cluster_centers_, dtype=np.float32))


def nearest(pool: Pool, centroids: Tensor, offset: Tensor, normalise: bool, chunk: int) -> Tensor:
    """(N,) the rule above, on the device of ``centroids``, ``chunk`` conditions at a time."""
    dimension(pool, centroids.shape[1])
    parts = chunks(pool, min(chunk, max(CELLS // len(centroids), 1)), normalise)
    return torch.cat([(distances(x.to(centroids.device), centroids) + offset).argmin(1) for _, x in parts])
