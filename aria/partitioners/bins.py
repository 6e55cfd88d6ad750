"""Regions of a drawn coordinate: the timestep, the log signal-to-noise ratio, the guidance scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from aria import checks
from aria.interfaces import Partitioner
from aria.partitioners.fitted import Fitted
from aria.partitioners.tables import Members
from aria.pool import Pool

FLOAT32 = torch.finfo(torch.float32).max
MOST = 1 << 20
"""Largest number of bins; with more, the edges alone would fill the memory."""


@dataclass(frozen=True)
class Bins(Partitioner):
    r"""``count`` bins of equal width over a coordinate from ``low`` to ``high``, or the bins between ``edges``.

    Bin :math:`k` holds :math:`e_k \le x < e_{k+1}`. Within it the coordinate is uniform, and the condition is drawn by
    pool weight whatever the bin, so

    .. math:: mass_k = \frac{e_{k+1} - e_k}{e_K - e_0},

    with the number of integers in the bin in place of its width where the coordinate is an integer. Timesteps are
    integers from ``low`` to ``high - 1``; other coordinates are real numbers unless ``integer`` is set.

    >>> partition = Bins("timestep", 0, 1000, 3).fit(Pool(size=10))
    >>> dict(zip(partition.names(), partition.mass.tolist()))
    {'timestep 0…333': 0.334, 'timestep 334…666': 0.333, 'timestep 667…999': 0.333}
    """

    coordinate: str = "timestep"
    low: float = 0
    high: float = 1000
    count: int = 10
    integer: bool | None = None
    """Whether the coordinate is an integer; None means that only the timestep is."""
    edges: Sequence[float] | None = None
    """K + 1 ascending numbers instead of ``low``, ``high`` and ``count``, for example from :func:`log_snr_edges`."""

    def __post_init__(self) -> None:
        if not isinstance(self.coordinate, str) or not self.coordinate.isidentifier() or self.coordinate == "index":
            raise ValueError(f"bins: coordinate must be a name such as 'timestep', got {self.coordinate!r}")
        if self.integer not in (None, True, False):
            raise ValueError(f"bins: integer must be True, False or None, got {self.integer!r}")
        checks.whole("bins: count", self.count, least=1)
        if self.count > MOST:
            raise ValueError(f"bins: count must be at most {MOST}, got {self.count}")
        if self.edges is not None:
            if isinstance(self.edges, str) or not isinstance(self.edges, Iterable):
                raise ValueError(f"bins: edges must be ascending numbers, got {self.edges!r}")
            object.__setattr__(self, "edges", tuple(self.edges))
        for name, value in (("low", self.low), ("high", self.high)):
            checks.number(f"bins: {name}", value)
        for value in self.edges or ():
            checks.number("bins: each edge", value)
        cuts = self.cuts()
        if len(cuts) < 2 or not all(abs(cut) < FLOAT32 for cut in cuts) or not all(a < b for a, b in pairwise(cuts)):
            given = f"edges={self.edges}" if self.edges else f"low={self.low}, high={self.high}, count={self.count}"
            what = "integer, so that no bin is empty" if self.whole else "finite number"
            raise ValueError(f"bins: each edge must be below the next by at least one {what}; got {given}")

    @property
    def coordinates(self) -> tuple[str, ...]:
        return (self.coordinate,)

    @property
    def whole(self) -> bool:
        """Whether the coordinate is an integer."""
        return self.coordinate == "timestep" if self.integer is None else self.integer

    def cuts(self) -> tuple[float, ...]:
        """The K + 1 edges; those of an integer coordinate are rounded up, which does not change its bins."""
        even = [self.low + (self.high - self.low) * k / self.count for k in range(self.count + 1)]
        cuts: Sequence[float] = even if self.edges is None else self.edges
        whole = self.whole and all(math.isfinite(cut) for cut in cuts)
        return tuple(math.ceil(cut) if whole else float(cut) for cut in cuts)

    def fit(self, pool: Pool) -> BinPartition:
        """Conditions are drawn from the pool; it does not affect the bins."""
        everything = Members.build(torch.zeros(len(pool)), 1, pool.weight)
        return BinPartition(everything, torch.tensor(self.cuts(), dtype=torch.float64), self.coordinate, self.whole)

    @classmethod
    def examples(cls) -> tuple[Bins, ...]:
        """Integers, real numbers, and custom edges."""
        return cls(), cls("guidance", 1.0, 12.0, 7), cls("timestep", edges=(0, 10, 200, 1000))


@dataclass(frozen=True, eq=False)
class BinPartition(Fitted, kind="bins"):
    """The partition of :class:`Bins`. Coordinates are drawn as int64 or as float32, and never leave their bin."""

    edges: Tensor  # (K + 1,) float64
    coordinate: str
    integer: bool
    first: Tensor = field(init=False)  # (K,) the smallest value in each bin
    last: Tensor = field(init=False)  # (K,) the largest

    def __post_init__(self) -> None:
        checks.flag("bins: integer", self.integer)
        if self.members.rows != 1:
            raise ValueError(f"bins: every bin holds all conditions, got {self.members.rows} rows of them")
        low, high = self.edges[:-1], self.edges[1:]
        if self.edges.ndim != 1 or len(low) < 1 or not bool((low < high).all() and self.edges.isfinite().all()):
            raise ValueError(f"bins: edges must be two or more ascending numbers, got {self.edges.tolist()[:9]}")
        if not isinstance(self.coordinate, str):
            raise ValueError(f"bins: coordinate must be a name, got {self.coordinate!r}")
        if self.integer:
            first, last = low.long(), high.long() - 1
        else:
            first, last = low.float(), high.float()
            first = torch.where(first < low, first.nextafter(torch.tensor(torch.inf)), first)
            last = torch.where(last >= high, last.nextafter(torch.tensor(-torch.inf)), last)
        if bool((first > last).any()):
            raise ValueError(f"bins: some edges of {self.coordinate!r} are closer together than two float32 numbers")
        object.__setattr__(self, "first", first)
        object.__setattr__(self, "last", last)
        super().__post_init__()

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The one coordinate."""
        return (self.coordinate,)

    def share(self) -> Tensor:
        """(K,) width of each bin, as a share of all."""
        return self.edges.diff() / (self.edges[-1] - self.edges[0])

    def cell(self, region: Tensor) -> Tensor:
        """(B,) zeros: every bin draws from the whole pool."""
        return torch.zeros_like(region)

    def place(self, region: Tensor, u: Sequence[Tensor]) -> dict[str, Tensor]:
        """The coordinate (B,), uniform in each bin (B,)."""
        low, width, first, last = (
            table.index_select(0, region) for table in (self.edges, self.edges.diff(), self.first, self.last)
        )
        value = low + (u[0] * width).floor() if self.integer else low + u[0] * width
        return {self.coordinate: value.to(first).maximum(first).minimum(last)}

    def locate(self, index: Tensor, **coords: Tensor) -> Tensor:
        """(B,) bin of the coordinate; the condition does not matter."""
        return self._bin(len(index), coords)

    def assign(self, pool: Pool, **coords: Tensor) -> Tensor:
        """(N,) bin of the coordinate; the condition does not matter."""
        return self._bin(len(pool), coords)

    def names(self) -> list[str]:
        """The range of each bin."""
        if self.integer:
            return [f"{self.coordinate} {a}…{b}" for a, b in zip(self.first.tolist(), self.last.tolist())]
        return [f"{self.coordinate} [{a:g}, {b:g})" for a, b in pairwise(self.edges.tolist())]

    def _bin(self, size: int, coords: Mapping[str, Tensor]) -> Tensor:
        if self.coordinate not in coords:
            raise ValueError(f"bins over {self.coordinate!r} need its values: pass {self.coordinate}=… (one each)")
        value = coords[self.coordinate].to(self.edges)
        if value.shape != (size,):
            raise ValueError(f"{self.coordinate} must have shape ({size},), got {tuple(value.shape)}")
        if value.device.type == "cpu":
            low, high = self.edges[0].item(), self.edges[-1].item()
            outside = value[~((value >= low) & (value < high if self.integer else value <= high))]
            if len(outside):
                bracket = ")" if self.integer else "]"
                got = outside[0].item()
                raise ValueError(f"{self.coordinate} must be in [{low:g}, {high:g}{bracket}, got {got:g}")
        return torch.bucketize(value, self.edges[1:-1], right=True)


def log_snr_edges(alphas_cumprod: Sequence[float] | Tensor, count: int) -> tuple[int, ...]:
    r"""``count + 1`` timesteps between which the log signal-to-noise ratio falls by equal amounts.

    .. math:: \lambda_t = \log\frac{\bar\alpha_t}{1 - \bar\alpha_t}, \qquad
              e_k = \min\{t : \lambda_t \le \lambda_0 - \tfrac kK(\lambda_0 - \lambda_{T-1})\},
              \quad e_0 = 0,\ e_K = T .

    ``alphas_cumprod`` (T,) is the attribute of diffusers' schedulers. Timesteps without any noise or signal, where
    :math:`\lambda` is infinite, belong to the outer bins.

    >>> betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    >>> log_snr_edges((1 - betas).cumprod(0), 4)
    (0, 21, 234, 681, 1000)
    """
    alphas = torch.as_tensor(alphas_cumprod, dtype=torch.float64).cpu()
    if alphas.ndim != 1 or not bool(((alphas >= 0) & (alphas <= 1)).all()) or bool((alphas.diff() > 0).any()):
        raise ValueError("alphas_cumprod must be (T,) numbers from 1 down to 0")
    checks.whole("count", count, least=1)
    falling = -torch.logit(alphas)
    finite = falling[falling.isfinite()]
    if not len(finite):
        raise ValueError("alphas_cumprod has no timestep with both signal and noise")
    levels = torch.linspace(float(finite[0]), float(finite[-1]), count + 1, dtype=torch.float64)
    inner = torch.searchsorted(falling, levels[1:-1]).tolist()
    edges = (0, *inner, len(alphas))
    if any(a >= b for a, b in pairwise(edges)):
        raise ValueError(f"count={count} bins are too many for these {len(alphas)} timesteps: some would be empty")
    return edges
