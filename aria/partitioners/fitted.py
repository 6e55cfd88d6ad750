"""The base class of fitted partitions: a table over the conditions, times bins over coordinates."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from aria.fields import short
from aria.interfaces import Partition
from aria.partitioners.tables import Members, moved
from aria.pool import Pool

KINDS: dict[str, type[Fitted]] = {}
"""Kinds of partition that a file may refer to. Importing a module adds its kinds; loading a file imports nothing."""


@dataclass(frozen=True, eq=False)
class Fitted(Partition):
    r"""A partition whose regions are rows of a table over the pool, times bins over drawn coordinates.

    Region :math:`k` draws its condition from row ``cell(k)`` of ``members`` by pool weight and its coordinates
    uniformly, independently of the condition, so

    .. math:: mass_k = mass(\text{row } cell(k)) \cdot share_k .

    A new kind of partition is a frozen dataclass that implements ``assign``. If its regions are rows of the table, as
    for labels and clusters, it inherits the rest. Its fields (tensors, tables, partitions and JSON values) are
    what a file contains, and ``class Mine(Fitted, kind="mine")`` makes it loadable.
    """

    members: Members
    mass: Tensor = field(init=False)  # (K,) float64
    hollow: bool = field(init=False)  # whether some region is empty

    kind: ClassVar[str]

    def __init_subclass__(cls, *, kind: str) -> None:
        if not cls.__module__.startswith("aria."):
            _load_built_in()
        if kind in KINDS and KINDS[kind].__qualname__ != cls.__qualname__:
            raise ValueError(f"two kinds of partition are called {kind!r}: {KINDS[kind].__name__} and {cls.__name__}")
        cls.kind = kind
        KINDS[kind] = cls

    def __post_init__(self) -> None:
        share = self.share()
        object.__setattr__(self, "mass", self.members.mass[self.cell(torch.arange(len(share)))] * share)
        object.__setattr__(self, "hollow", bool((self.mass == 0).any()))

    def weighted(self, weight: Tensor) -> Self:
        """The same regions of the same conditions, which have other weights (N,)."""
        return replace(self, members=Members.build(self.members.row, self.members.rows, weight))

    # A kind whose regions are not simply rows of the table overrides the following.

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates that are drawn together with a condition."""
        return ()

    def share(self) -> Tensor:
        """(K,) float64, probability of the region's bin given its row."""
        return torch.ones(self.members.rows, dtype=torch.float64)

    def cell(self, region: Tensor) -> Tensor:
        """(B,) row of the table that each region draws from."""
        return region

    def place(self, region: Tensor, u: Sequence[Tensor]) -> dict[str, Tensor]:
        """Coordinates in each region (B,), each chosen by one of ``u``, (B,) in [0, 1)."""
        return {}

    def locate(self, index: Tensor, **coords: Tensor) -> Tensor:
        """(B,) region of conditions given by their position in the fitted pool."""
        return self.members.locate(index)

    def names(self) -> list[str]:
        """A short readable name for each region."""
        return [f"{self.kind} {region}" for region in range(self.num_regions)]

    def remoteness(self, pool: Pool) -> Tensor:
        """(N,) distance of each condition of the fitted pool to the centroid of its row; 0 if it has no centroid."""
        return torch.zeros(len(pool))

    # Everything below is common to all kinds.

    def draw(self, region: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """One condition for each region (B,): ``{"index": (B,), …coordinates}``. One call of :func:`torch.rand`.

        A region that does not exist or is empty raises an error on a CPU; elsewhere checking would synchronise with the
        device.
        """
        if region.ndim != 1 or region.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"regions must be (B,) integers, got {tuple(region.shape)} of {region.dtype}")
        source = region.device if generator is None else generator.device
        u = torch.rand(1 + len(self.coordinates), len(region), generator=generator, dtype=torch.float64, device=source)
        first, *others = u.to(region.device, non_blocking=True).unbind()
        try:  # on a CPU, looking up a region that does not exist raises an IndexError
            drawn = {"index": self.members.draw(self.cell(region), first), **self.place(region, others)}
        except IndexError:
            outside = region[(region < 0) | (region >= self.num_regions)]
            raise ValueError(f"there is no region {int(outside[0])}: regions are 0 to {self.num_regions - 1}") from None
        if self.hollow and region.is_cpu and bool((self.mass[region] == 0).any()):
            empty = region[self.mass[region].argmin()]
            raise ValueError(f"region {int(empty)} has mass 0: it contains nothing to draw")
        return drawn

    def to(self, device: torch.device | str) -> Self:
        """The same partition with its tables on ``device``, where it then draws, locates and assigns."""
        return moved(self, device)

    def state_dict(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """JSON-serialisable settings and tensors that :func:`rebuild` turns into the same partition."""
        settings: dict[str, Any] = {"kind": self.kind}
        tensors: dict[str, Tensor] = {}
        for name in _arguments(type(self)):
            value = getattr(self, name)
            if isinstance(value, Tensor):
                tensors[name] = value
            elif isinstance(value, (Members, Fitted)):
                settings[name], inner = value.state_dict()
                tensors |= {f"{name}.{key}": tensor for key, tensor in inner.items()}
            else:
                settings[name] = value
        return settings, tensors


@cache
def _load_built_in() -> None:
    """Import the modules beside this one, which are loaded lazily: each adds its kinds of partition."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{__package__}.{module.name}")


def rebuild(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Fitted:
    """The partition that :meth:`Fitted.state_dict` described. Its kind is looked up, never imported."""
    if not isinstance(settings, Mapping):
        raise ValueError(f"a partition is described by an object, got {short(settings)}")
    kind = settings["kind"]
    _load_built_in()
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"unknown kind of partition {kind!r}; known kinds: {', '.join(sorted(KINDS))}. Import the module of your "
            "own kind first; aria report and aria quantise import it if you pass --partitioner file.py:Class"
        )
    values: dict[str, Any] = {}
    for name in _arguments(KINDS[kind]):
        inner = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        if name in tensors:
            values[name] = tensors[name]
        elif name == "members":
            values[name] = Members.from_state(settings[name], inner)
        elif isinstance(settings[name], dict):
            values[name] = rebuild(settings[name], inner)
        else:
            values[name] = _tuples(settings[name])
    return KINDS[kind](**values)


def _arguments(kind: type[Fitted]) -> list[str]:
    """The fields that define a partition and that a file contains."""
    return [item.name for item in fields(kind) if item.init]


def _tuples(value: Any) -> Any:
    """Lists from JSON, converted back to tuples."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
