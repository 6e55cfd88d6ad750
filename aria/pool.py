"""The pool of conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aria import checks


@dataclass(frozen=True, eq=False)
class Pool:
    """N conditions, most of them without a training image, with embeddings, labels, texts and weights.

    Every field is optional, as long as one of them determines N. ``embeddings`` may be a memory-mapped array:
    partitioners read it in chunks and never as a whole.

    >>> pool = Pool(texts=["a red cat", "a dog"], columns={"animal": ["cat", "dog"]})
    >>> len(pool)
    2
    """

    embeddings: Any = None
    """(N, D) array, memory map or tensor; anything numpy can slice by rows."""
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Labels or metadata by name, N values each."""
    texts: Sequence[str] | None = None
    """N prompts, used only to describe regions to people."""
    weight: Tensor | None = None
    """(N,) share of each condition in the target distribution, at any scale; None means equal shares."""
    size: int | None = None
    """N, if no other field determines it."""

    def __post_init__(self) -> None:
        if isinstance(self.texts, str):
            raise ValueError(f"texts must be a sequence of prompts, got one text {self.texts!r}")
        if not isinstance(self.columns, Mapping):
            raise ValueError(f"columns must map names to values, such as {{'style': [...]}}, got {self.columns!r}")
        if self.embeddings is not None and not hasattr(self.embeddings, "ndim"):
            raise ValueError(f"embeddings must be an (N, D) array or tensor, got {type(self.embeddings).__name__}")
        sizes = {name: len(values) for name, values in self._parts().items()}
        if self.size is not None:
            checks.whole("size", self.size)
            sizes["size"] = self.size
        if not sizes:
            raise ValueError("an empty Pool(): give embeddings, columns, texts, weight or size")
        if len(set(sizes.values())) > 1:
            raise ValueError(f"the parts of a pool must agree on its size, got {sizes}")
        size = next(iter(sizes.values()))
        if size < 1:
            raise ValueError("the pool is empty: it needs at least one condition")
        object.__setattr__(self, "size", size)
        if self.embeddings is not None and self.embeddings.ndim != 2:
            raise ValueError(f"embeddings must have shape (N, D), got {tuple(self.embeddings.shape)}")
        if self.weight is not None:
            weight = torch.as_tensor(self.weight, dtype=torch.float64)
            if not (weight.ndim == 1 and bool((weight >= 0).all()) and 0 < float(weight.sum()) < float("inf")):
                raise ValueError("weight must be (N,), finite and non-negative with a positive sum")
            object.__setattr__(self, "weight", weight)

    def __len__(self) -> int:
        assert self.size is not None
        return self.size

    def _parts(self) -> dict[str, Any]:
        named = {"embeddings": self.embeddings, "texts": self.texts, "weight": self.weight}
        named |= {f"column {name!r}": values for name, values in self.columns.items()}
        return {name: values for name, values in named.items() if values is not None}

    def column(self, name: str) -> Sequence[Any]:
        """The values of one metadata column; the error for a missing one lists the existing columns."""
        if name not in self.columns:
            have = ", ".join(sorted(self.columns)) or "none"
            raise ValueError(f"the pool has no column {name!r}; it has: {have}")
        return self.columns[name]
