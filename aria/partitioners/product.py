"""The product of two partitions: labels times timesteps, clusters times labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from aria.interfaces import Partition, Partitioner
from aria.partitioners.bins import Bins
from aria.partitioners.fitted import Fitted
from aria.partitioners.labels import Labels
from aria.partitioners.tables import Members, check_number
from aria.pool import Pool


@dataclass(frozen=True)
class Product(Partitioner):
    r"""Every pair of a region :math:`a` of ``first`` and a region :math:`b` of ``second``: :math:`k = a K_b + b`.

    If one of the two divides the conditions and the other a coordinate, the mass of a pair is the product of the two
    masses. If both divide the conditions, it is the share of the pool that is in both; an empty pair has mass 0.
    Products may be nested, and each coordinate may appear once.

    >>> pool = Pool(columns={"style": ["ink", "photo", "photo", "photo"]})
    >>> partition = Product(Labels("style"), Bins("timestep", 0, 1000, 2)).fit(pool)
    >>> partition.mass.tolist()
    [0.125, 0.125, 0.375, 0.375]
    """

    first: Partitioner
    second: Partitioner

    def __post_init__(self) -> None:
        for name in ("first", "second"):
            if not isinstance(part := getattr(self, name), Partitioner):
                raise ValueError(f"product: {name} must be a partitioner such as labels('style'), got {part!r}")

    @property
    def coordinates(self) -> tuple[str, ...]:
        return self.first.coordinates + self.second.coordinates

    def fit(self, pool: Pool) -> ProductPartition:
        """Fit both to the same pool."""
        return ProductPartition(_fitted(self.first.fit(pool)), _fitted(self.second.fit(pool)))

    @classmethod
    def examples(cls) -> tuple[Product, ...]:
        """Conditions times a coordinate, conditions times conditions, and both at once."""
        styles = Labels("style")
        joint = cls(Labels("label"), styles)
        return cls(styles, Bins("timestep", 0, 1000, 4)), joint, cls(Bins("guidance", 1.0, 9.0, 2), joint)


@dataclass(frozen=True, eq=False)
class ProductPartition(Fitted, kind="product"):
    """The partition of :class:`Product`.

    Its table has a row for every pair of rows of the two. A partition of a coordinate has one row, the whole pool,
    so that one formula covers all cases.
    """

    members: Members = field(init=False)
    first: Fitted
    second: Fitted

    def __post_init__(self) -> None:
        if not isinstance(self.first, Fitted) or not isinstance(self.second, Fitted):
            raise ValueError("product: both parts must be partitions")
        a, b = self.first.members, self.second.members
        if shared := set(self.first.coordinates) & set(self.second.coordinates):
            raise ValueError(f"product: both parts draw {min(shared)!r}; each coordinate may appear once")
        if a.size != b.size:
            raise ValueError(f"product: the parts divide {a.size} and {b.size} conditions, not the same pool")
        check_number("pairs of regions", self.first.num_regions * self.second.num_regions, a.size)
        check_number("pairs of rows", a.rows * b.rows, a.size)
        members = Members.build(a.row.long() * b.rows + b.row.long(), a.rows * b.rows, a.weight)
        object.__setattr__(self, "members", members)
        super().__post_init__()

    def weighted(self, weight: Tensor) -> Self:
        """With the weights in both parts, whose table follows from theirs."""
        return replace(self, first=self.first.weighted(weight), second=self.second.weighted(weight))

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The coordinates of both parts."""
        return self.first.coordinates + self.second.coordinates

    def share(self) -> Tensor:
        """(K,) product of the parts' shares."""
        return torch.outer(self.first.share(), self.second.share()).flatten()

    def cell(self, region: Tensor) -> Tensor:
        """(B,) row of each pair."""
        a, b = self._parts(region)
        return self.first.cell(a) * self.second.members.rows + self.second.cell(b)

    def place(self, region: Tensor, u: Sequence[Tensor]) -> dict[str, Tensor]:
        """Coordinates of both parts."""
        a, b = self._parts(region)
        split = len(self.first.coordinates)
        return {**self.first.place(a, u[:split]), **self.second.place(b, u[split:])}

    def locate(self, index: Tensor, **coords: Tensor) -> Tensor:
        """(B,) region of the pair of both parts' regions."""
        return self._pair(self.first.locate(index, **coords), self.second.locate(index, **coords))

    def assign(self, pool: Pool, **coords: Tensor) -> Tensor:
        """(N,) region of the pair of both parts' regions."""
        return self._pair(self.first.assign(pool, **coords), self.second.assign(pool, **coords))

    def names(self) -> list[str]:
        """The names of both parts, joined."""
        return [f"{a} × {b}" for a in self.first.names() for b in self.second.names()]

    def remoteness(self, pool: Pool) -> Tensor:
        """(N,) sum of both parts' distances."""
        return self.first.remoteness(pool) + self.second.remoteness(pool)

    def _parts(self, region: Tensor) -> tuple[Tensor, Tensor]:
        return region // self.second.num_regions, region % self.second.num_regions

    def _pair(self, a: Tensor, b: Tensor) -> Tensor:
        return a * self.second.num_regions + b


def _fitted(partition: Partition) -> Fitted:
    if not isinstance(partition, Fitted):
        raise ValueError(f"product: {type(partition).__name__} must derive from aria.partitioners.Fitted")
    return partition
