"""Random numbers for one block of replicas, and random signs that take one bit each.

On a CPU they come from NumPy's SFC64, which draws normal numbers in half the time of torch; on an accelerator from
torch.
"""

from __future__ import annotations

import struct

import numpy as np
import torch
from torch import Tensor

from aria.interfaces import Device

_SIGN = -(1 << 63)


class Random:
    """A stream of (R, K) float64 tensors of independent numbers, the same for the same seed, shape and kind of device.

    >>> Random(seed=0, shape=(2, 1)).normal().shape
    torch.Size([2, 1])
    """

    def __init__(self, seed: int, shape: tuple[int, int], device: Device = None) -> None:
        self.shape = shape
        self.device = torch.device(device or "cpu")
        self._host = np.random.Generator(np.random.SFC64(seed)) if self.device.type == "cpu" else None
        self._device = None if self._host else torch.Generator(self.device).manual_seed(seed)

    def _empty(self, columns: int | None = None) -> Tensor:
        shape = self.shape if columns is None else (self.shape[0], columns)
        return torch.empty(shape, dtype=torch.float64, device=self.device)

    def normal(self) -> Tensor:
        """(R, K) standard normal numbers."""
        out = self._empty()
        if self._host is None:
            return out.normal_(generator=self._device)
        self._host.standard_normal(out=out.numpy())
        return out

    def uniform(self, columns: int | None = None) -> Tensor:
        """(R, K) numbers uniform in [0, 1); (R, columns) if ``columns`` is given."""
        out = self._empty(columns)
        if self._host is None:
            return out.uniform_(generator=self._device)
        self._host.random(out=out.numpy())
        return out

    def exponential(self) -> Tensor:
        """(R, K) standard exponential numbers."""
        out = self._empty()
        if self._host is None:
            return out.exponential_(generator=self._device)
        self._host.standard_exponential(out=out.numpy())
        return out

    def words(self) -> Tensor:
        """(R, K) int64, each with 64 independent fair bits."""
        if self._host is None:
            halves = torch.empty((2, *self.shape), dtype=torch.int64, device=self.device)
            high, low = halves.random_(0, 1 << 32, generator=self._device).unbind()
            return (high << 32) | low
        return torch.from_numpy(self._host.integers(_SIGN, ~_SIGN, size=self.shape, dtype=np.int64, endpoint=True))

    def student(self, freedom: float) -> Tensor:
        """(R, K) numbers of Student's distribution with ``freedom`` degrees of freedom."""
        if self._host is None:
            half = torch.full(self.shape, freedom / 2, dtype=torch.float64, device=self.device)
            chi = torch._standard_gamma(half, generator=self._device)
            return self.normal() * (half / chi).sqrt()
        return torch.from_numpy(self._host.standard_t(freedom, size=self.shape))

    def binomial(self, trials: int, probability: float) -> Tensor:
        """(R, K) numbers of successes among ``trials``."""
        if self._host is None:
            n = torch.full(self.shape, float(trials), dtype=torch.float64, device=self.device)
            return torch.binomial(n, torch.full_like(n, probability), generator=self._device)
        return torch.from_numpy(self._host.binomial(trials, probability, size=self.shape)).double()


def next_word(word: Tensor, step: int, random: Random) -> Tensor:
    """(R, K) the word whose highest bit is unused at this ``step`` (1, 2, …): a word lasts 64 steps."""
    return random.words() if step % 64 == 1 else word << 1


def signed(word: Tensor, magnitude: float) -> Tensor:
    """(R, K) ±magnitude, whose sign bit is the highest bit of the word.

    >>> signed(torch.tensor([-1, 5]), 0.5)
    tensor([-0.5000,  0.5000], dtype=torch.float64)
    """
    (bits,) = struct.unpack("<q", struct.pack("<d", magnitude))
    signed_bits: Tensor = (word & _SIGN) | bits
    return signed_bits.view(torch.float64)
