"""Encoded conditions and latents held as tensors in memory, for pools too small to need a cache on disk.

They offer what :class:`aria.distill.Conditions` and :class:`aria.distill.Latents` offer the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Loaded:
    """The result of a prefetch from memory, which is available at once."""

    tensors: dict[str, Tensor]

    def result(self) -> dict[str, Tensor]:
        """(B, …) conditions."""
        return self.tensors


class EncodingsInMemory:
    """N encoded conditions and the null condition, all on one device.

    >>> import torch
    >>> pool = EncodingsInMemory({"tokens": torch.arange(6.0).view(3, 2)}, {"tokens": torch.zeros(1, 2)})
    >>> len(pool), pool.prefetch(torch.tensor([2, 0])).result()["tokens"].tolist()
    (3, [[4.0, 5.0], [0.0, 1.0]])
    """

    residency = "device"

    def __init__(self, tensors: Mapping[str, Tensor], null: Mapping[str, Tensor]) -> None:
        """
        Args:
            tensors: (N, …) by the names of the denoiser's inputs.
            null: (1, …) the null condition, by the same names.
        """
        self.tensors, self._null = dict(tensors), dict(null)

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def null(self, n: int) -> dict[str, Tensor]:
        """(n, …) the null condition ``n`` times, without copies."""
        return {name: value.expand(n, *value.shape[1:]) for name, value in self._null.items()}

    def gather(self, index: Tensor) -> dict[str, Tensor]:
        """(B, …) the conditions at ``index`` (B,)."""
        return {name: _rows(value, index) for name, value in self.tensors.items()}

    def prefetch(self, index: Tensor) -> Loaded:
        """The same by ``prefetch(index).result()``."""
        return Loaded(self.gather(index))


class LatentsInMemory:
    """M latents, each with the position of its condition in the pool.

    >>> import torch
    >>> images = LatentsInMemory(torch.zeros(3, 4, 8, 8), torch.tensor([5, 0, 5]))
    >>> len(images), images.gather(torch.tensor([0, 1]))[1].tolist(), images.conditions().tolist()
    (3, [5, 0], [5, 0, 5])
    """

    def __init__(self, latents: Tensor, conditions: Tensor) -> None:
        """
        Args:
            latents: (M, …).
            conditions: (M,) index into the pool.
        """
        self.latents, self._conditions = latents, conditions.to(latents.device)

    def __len__(self) -> int:
        return len(self.latents)

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, …) latents and (B,) conditions of ``rows`` (B,)."""
        return _rows(self.latents, rows), _rows(self._conditions, rows)

    def conditions(self) -> Tensor:
        """(M,) the condition of every latent."""
        return self._conditions


def _rows(tensor: Tensor, index: Tensor) -> Tensor:
    """The rows at ``index``, which is moved to the tensor's device without a host sync."""
    return tensor[index.to(tensor.device, non_blocking=True)]
