"""A sampler as the batch sampler of a ``torch.utils.data.DataLoader``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch.utils.data

from aria import checks
from aria.interfaces import Draw
from aria.samplers.sampler import Sampler

Batch = TypeVar("Batch")


class DrawBatches(torch.utils.data.Sampler[list[int]]):
    """Yields lists of pool positions, and keeps each :class:`~aria.interfaces.Draw` until its batch arrives.

    A loader with workers asks for batches ahead of time, so the allocation a batch was drawn from lags behind the
    observations by the prefetch depth, and a run resumed from a state taken then repeats the uninterrupted one only
    from the batches not yet asked for. With ``num_workers=0`` there is no lag and resuming is exact.

    >>> import aria, torch
    >>> from torch.utils.data import DataLoader
    >>> prompts = ["a cat", "a dog", "a red cat", "a red dog"]
    >>> pool = aria.Pool(texts=prompts, columns={"animal": ["cat", "dog"] * 2})
    >>> sampler = aria.Sampler(aria.partitioners.Labels("animal").fit(pool), allocator="uniform")
    >>> batches = DrawBatches(sampler, batch_size=4, steps=2)
    >>> for batch, draw in batches.paired(DataLoader(prompts, batch_sampler=batches)):
    ...     moved = sampler.observe(draw, torch.rand(4))
    ...     len(batch), sorted(draw.region.tolist())
    (4, [0, 0, 1, 1])
    (4, [0, 0, 1, 1])
    """

    def __init__(self, sampler: Sampler, batch_size: int, steps: int) -> None:
        checks.whole("batch_size", batch_size, least=1)
        checks.whole("steps", steps, least=0)
        self.sampler = sampler
        self.batch_size = batch_size
        self.steps = steps
        self._waiting: deque[Draw] = deque()

    def __iter__(self) -> Iterator[list[int]]:
        self._waiting.clear()
        for _ in range(self.steps):
            draw = self.sampler.draw(self.batch_size)
            self._waiting.append(draw)
            yield draw.index.tolist()

    def __len__(self) -> int:
        return self.steps

    def paired(self, loader: Iterable[Batch]) -> Iterator[tuple[Batch, Draw]]:
        """The loader's batches, each with the draw it came from."""
        if getattr(loader, "batch_sampler", None) is not self:
            raise ValueError("paired takes the loader that was made with batch_sampler=this")
        if not getattr(loader, "in_order", True):
            raise ValueError("the loader gives its batches out of order: leave in_order=True")
        for batch in loader:
            yield batch, self._waiting.popleft()
