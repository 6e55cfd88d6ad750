"""A table of the conditions in each row, and draws from rows without a Python loop."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
from torch import Tensor

from aria import checks

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MOST = 1 << 25
"""Largest number of conditions of a file in which nothing is listed for each of them; their encodings would be
terabytes."""
MOST_ROWS = 1 << 20
"""Largest number of rows, or of regions, into which fewer conditions can be divided: the others are empty."""

Moved = TypeVar("Moved", bound="DataclassInstance")


@dataclass(frozen=True, eq=False)
class Members:
    r"""N conditions sorted into R rows, in compressed form (CSR).

    With :math:`u` uniform in :math:`[0, 1)`, row :math:`r` starting at :math:`s_r` with :math:`n_r` conditions of
    positive weight, the condition drawn is ``order[j]`` where

    .. math:: j = s_r + \lfloor u\, n_r \rfloor \quad\text{(equal weights)}, \qquad
              F_j \le F_{s_r} + u\,(F_{s_{r+1}} - F_{s_r}) < F_{j+1} \quad\text{(weighted)},

    and :math:`F` is the running sum of each condition's share of its own row, so that light rows are drawn
    from as precisely as heavy ones. Conditions of weight zero are not in ``order`` and cannot be drawn.

    >>> rows = Members.build(torch.tensor([1, 0, 1]), rows=3, weight=torch.tensor([1.0, 2.0, 1.0]))
    >>> rows.mass.tolist()
    [0.5, 0.5, 0.0]
    >>> rows.draw(torch.tensor([1, 1, 0]), torch.tensor([0.2, 0.7, 0.7])).tolist()
    [0, 2, 1]
    """

    row: Tensor  # (N,) int32, row of each condition
    order: Tensor  # (M,) int32, conditions of positive weight, row by row and in pool order within
    start: Tensor  # (R + 1,) int64, where each row starts in ``order``
    length: Tensor  # (R,) float64, number of conditions of positive weight in each row
    mass: Tensor  # (R,) float64, share of the pool's weight in each row
    weight: Tensor | None  # (N,) float64, or None for equal weights
    rising: Tensor | None  # (M + 1,) float64, F; None for equal weights

    @classmethod
    def build(cls, row: Tensor, rows: int, weight: Tensor | None = None) -> Self:
        """Build the table from the row of each condition ``(N,)`` and their weights ``(N,)``."""
        row = row.long().cpu()
        if row.ndim != 1 or row.numel() == 0 or not 0 <= int(row.min()) <= int(row.max()) < rows:
            raise ValueError(f"every condition needs a row from 0 to {rows - 1}")
        check_number("rows", rows, len(row))
        weight = None if weight is None else weight.double().cpu()
        if weight is not None and not (
            weight.shape == row.shape and 0 < float(weight.sum()) < torch.inf and bool((weight >= 0).all())
        ):
            raise ValueError("weights must be one per condition, finite and non-negative with a positive sum")
        kept = torch.arange(len(row)) if weight is None else weight.nonzero().squeeze(1)
        order = kept if rows == 1 else kept[row[kept].argsort(stable=True)]
        count = torch.bincount(row[kept], minlength=rows)
        start = torch.cat([count.new_zeros(1), count.cumsum(0)])
        if weight is None:
            total, rising = count.double(), None
        else:
            total = torch.bincount(row, weights=weight, minlength=rows)
            share = weight[order] / total[row[order]]
            rising = torch.cat([share.new_zeros(1), share.cumsum(0)])
        return cls(row.int(), order.int(), start, count.double(), total / total.sum(), weight, rising)

    @property
    def size(self) -> int:
        """Number of conditions N."""
        return self.row.shape[0]

    @property
    def rows(self) -> int:
        """Number of rows R."""
        return self.mass.shape[0]

    def count(self) -> Tensor:
        """(R,) number of conditions in each row, including those of weight zero."""
        return torch.bincount(self.row.long(), minlength=self.rows)

    def locate(self, index: Tensor) -> Tensor:
        """(B,) row of each condition."""
        if index.device.type == "cpu" and index.numel() and not 0 <= int(index.min()) <= int(index.max()) < self.size:
            raise ValueError(f"the pool's conditions are 0 to {self.size - 1}, got index {_outside(index, self.size)}")
        return self.row[index].long()

    def draw(self, row: Tensor, u: Tensor) -> Tensor:
        """(B,) one condition from each row ``(B,)``, chosen by ``u`` in [0, 1) ``(B,)``."""
        first = self.start.index_select(0, row)
        if self.rising is None:
            # u n < n in float64 for every u < 1, so the floor never leaves the row
            place = (u * self.length.index_select(0, row)).long().add_(first)
            return self.order.index_select(0, place).long()
        end = self.start[row + 1]
        low, high = self.rising[first], self.rising[end]
        place = torch.searchsorted(self.rising[1:], low + u * (high - low), right=True)
        return self.order[place.minimum(end - 1).clamp(min=0)].long()

    def to(self, device: torch.device | str) -> Self:
        """The same table on ``device``."""
        return moved(self, device)

    def state_dict(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Settings and tensors; everything else is rebuilt from them."""
        tensors = {} if self.rows == 1 else {"row": self.row}
        tensors |= {} if self.weight is None else {"weight": self.weight}
        return {"size": self.size, "rows": self.rows}, tensors

    @classmethod
    def from_state(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """The table that :meth:`state_dict` described."""
        size, rows = settings["size"], settings["rows"]
        checks.whole("size", size, least=1)
        checks.whole("rows", rows, least=1)
        weight = tensors.get("weight")
        if weight is not None and weight.shape != (size,):
            raise ValueError(f"weights must be {size}, one for each condition, got {tuple(weight.shape)}")
        if rows == 1 and weight is None and size > MOST:
            raise ValueError(f"it lists none of its {size} conditions, which may then be {MOST} at most")
        row = torch.zeros(size, dtype=torch.int32) if rows == 1 else tensors["row"]
        if row.dtype not in (torch.int32, torch.int64) or row.shape != (size,):
            raise ValueError(f"rows must be {size} integers, got {tuple(row.shape)} of {row.dtype}")
        if weight is not None and not weight.is_floating_point():
            raise ValueError(f"weights must be real numbers, got {weight.dtype}")
        return cls.build(row, rows, weight)


def check_number(what: str, count: int, size: int) -> None:
    """Refuse more rows or regions than ``size`` conditions and :data:`MOST_ROWS`, before memory is taken for them."""
    if count > max(size, MOST_ROWS):
        raise ValueError(f"{count} {what} are too many for {size} conditions: at most {max(size, MOST_ROWS)} can be")


def moved(record: Moved, device: torch.device | str) -> Moved:
    """A copy of a dataclass with every field that has a method ``to`` moved to ``device``."""
    copied = copy(record)
    for name in (field.name for field in fields(record)):
        value = getattr(record, name)
        if hasattr(value, "to"):
            object.__setattr__(copied, name, value.to(device))
    return copied


def _outside(values: Tensor, limit: int) -> int:
    """The first of ``values`` that is not in 0…limit-1."""
    return int(values[(values < 0) | (values >= limit)][0])
