"""Regions by class label or metadata."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aria.fields import short
from aria.interfaces import Partitioner
from aria.partitioners.fitted import Fitted
from aria.partitioners.tables import Members
from aria.pool import Pool

Label = str | int | float | bool | None
Key = tuple[str, Label]  # 1, 1.0 and True are three labels although Python calls them equal
ALLOWED = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Labels(Partitioner):
    """One region for each distinct value of a column of the pool.

    Regions are in sorted order of the values (by type, then by value), so they do not depend on the order of the
    pool. Class labels, styles, languages or sources make regions that are easy to interpret.

    >>> pool = Pool(columns={"style": ["photo", "ink", "photo", "photo"]})
    >>> partition = Labels("style").fit(pool)
    >>> dict(zip(partition.names(), partition.mass.tolist()))
    {'style=ink': 0.25, 'style=photo': 0.75}
    """

    column: str = "label"

    def __post_init__(self) -> None:
        if not isinstance(self.column, str) or not self.column:
            raise ValueError(f"labels: column must be the name of a column of the pool, got {self.column!r}")

    def fit(self, pool: Pool) -> LabelPartition:
        """Find the distinct values and group the conditions by them."""
        keys = list(_keys(pool, self.column))
        known = sorted(set(keys), key=lambda key: key if key[1] is not None else key[:1])
        region = _regions(keys, known, self.column)
        return LabelPartition(Members.build(region, len(known), pool.weight), self.column, tuple(v for _, v in known))

    @classmethod
    def examples(cls) -> tuple[Labels, ...]:
        """Two columns of the built-in pool: one of numbers, one of names."""
        return cls("label"), cls("style")


@dataclass(frozen=True, eq=False)
class LabelPartition(Fitted, kind="labels"):
    """The partition of :class:`Labels`: ``values[k]`` is the label of region k."""

    column: str
    values: tuple[Label, ...]

    def __post_init__(self) -> None:
        many, values = self.members.rows, self.values
        if not isinstance(self.column, str) or not isinstance(values, tuple) or len(values) != many:
            raise ValueError(
                f"labels: {many} regions need a column and {many} values, got {self.column!r}, {short(values)}"
            )
        if odd := [value for value in values if not _is_label(value)]:
            raise ValueError(f"labels: a label is text, a finite number or None, got {odd[0]!r}")
        super().__post_init__()

    def assign(self, pool: Pool, **coords: Tensor) -> Tensor:
        """(N,) region of each condition's label; a label that was not in the fitted pool raises an error."""
        known = [(type(value).__name__, value) for value in self.values]
        return _regions(list(_keys(pool, self.column)), known, self.column).to(self.mass.device)

    def names(self) -> list[str]:
        """``column=value`` for each region."""
        return [f"{self.column}={value}" for value in self.values]


def _regions(keys: list[Key], known: list[Key], column: str) -> Tensor:
    """(N,) position of each key in ``known``."""
    position = {key: region for region, key in enumerate(known)}
    try:
        return torch.tensor([position[key] for key in keys])
    except KeyError as missing:
        few = ", ".join(repr(value) for _, value in known[:5]) + (", …" if len(known) > 5 else "")
        raise ValueError(f"column {column!r} has the unknown label {missing.args[0][1]!r}; known: {few}") from None


def _keys(pool: Pool, column: str) -> Iterator[Key]:
    """The type and value of each label, with numbers of numpy and torch converted to Python's."""
    values: Any = pool.column(column)
    for row, value in enumerate(values.tolist() if hasattr(values, "tolist") else values):
        plain = value.item() if hasattr(value, "item") else value
        if not _is_label(plain):
            raise ValueError(f"a label is text, a finite number or None; column {column!r} has {plain!r} in row {row}")
        yield type(plain).__name__, plain


def _is_label(value: Any) -> bool:
    return type(value) in ALLOWED and (type(value) is not float or math.isfinite(value))
