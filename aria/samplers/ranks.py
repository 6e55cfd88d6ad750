"""Which rank this is, and sums over all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """The ranks that share one sampler; a single process where torch.distributed is not initialised.

    >>> Ranks().place()
    (0, 1)
    """

    distributed: bool = True
    group: Any = None

    def place(self) -> tuple[int, int]:
        """Position of this process among the ranks, and their number."""
        if self.distributed and dist.is_available() and dist.is_initialized():
            return dist.get_rank(self.group), dist.get_world_size(self.group)
        return 0, 1

    def agree(self, settings: Callable[[], dict[str, Any]], device: torch.device) -> None:
        """Raise unless the settings are the same on all ranks, as a shared draw needs; every rank must call it.

        A single process does not ask for them: they are read from the device.
        """
        if self.place()[1] == 1:
            return
        own = settings()
        text = json.dumps(own, sort_keys=True).encode()
        mark = int.from_bytes(hashlib.sha256(text).digest()[:7])
        span = torch.tensor([mark, -mark], device=device)
        dist.all_reduce(span, op=dist.ReduceOp.MAX, group=self.group)
        if span[0] != -span[1]:
            raise ValueError(f"all ranks need a sampler with the same settings, seed included; this one has {own}")

    def sum(self, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The sum of each (n,) tensor over the ranks, in one exchange; every rank must call it."""
        if self.place()[1] == 1:
            return parts
        joined = torch.cat(parts)
        dist.all_reduce(joined, group=self.group)
        return torch.split(joined, [len(part) for part in parts])
