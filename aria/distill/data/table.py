"""A store served from where it is read fastest: the device, RAM or the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from aria import checks
from aria.distill.data.store import Store

Rows = dict[str, Tensor]
RESIDENCIES = ("device", "pinned", "disk")
DEVICE_BUDGET = 1 << 30
"""Bytes of device memory a table takes where nothing else is said."""


def half_of_memory() -> int:
    """Half of this machine's RAM in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


class Pending:
    """Rows on their way; :meth:`result` waits for them, on CUDA only the current stream does."""

    def __init__(self, future: Future[tuple[Rows, Any]]) -> None:
        self._future = future

    def result(self) -> Rows:
        """The rows on the device; an error met while reading is raised here."""
        rows, ready = self._future.result()
        if ready is not None:
            for x in rows.values():
                stream = torch.cuda.current_stream(x.device)
                stream.wait_event(ready)
                x.record_stream(stream)  # its memory was allocated for the copying stream
        return rows


class Table:
    """Rows of a store, on ``device`` when asked for; with ``row`` (N,), entry i is row ``row[i]``.

    ``residency`` says where they are meanwhile: all of them on the device; in RAM, from which batches pass through
    page-locked buffers where there is CUDA; or on the disk. Left open, it is the first of these that fits its budget.

    >>> import tempfile
    >>> from aria.distill.data.store import Writer
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Writer(folder, {}, total=3) as writer:
    ...         writer.append({"x": torch.tensor([1.0, 2.0, 3.0])})
    ...     table = Table(Store(folder), device_budget=0)
    ...     table.residency, table.prefetch(torch.tensor([2, 2, 0])).result()["x"].tolist()
    ('pinned', [3.0, 3.0, 1.0])
    """

    def __init__(
        self,
        store: Store,
        names: Iterable[str] | None = None,
        *,
        row: Tensor | None = None,
        device: torch.device | str = "cpu",
        residency: str | None = None,
        device_budget: int = DEVICE_BUDGET,
        host_budget: int | None = None,
    ) -> None:
        self.store = store
        self.names = tuple(store.names if names is None else names)
        self.device = torch.device(device)
        self.nbytes = store.nbytes(self.names)
        host_budget = half_of_memory() if host_budget is None else host_budget
        if residency is None:
            fits = (self.nbytes <= device_budget, self.nbytes <= host_budget, True)
            residency = RESIDENCIES[fits.index(True)]
        checks.one_of("residency", residency, RESIDENCIES)
        self.residency = residency
        self._held = None if residency == "disk" else self._load(self.device if residency == "device" else "cpu")
        self._row = row.to(self.device) if row is not None and residency == "device" else row
        self._cuda = self.device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(self.device) if self._cuda else None  # type: ignore[no-untyped-call]
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="aria-read")  # its thread starts when first used

    def _load(self, device: torch.device | str) -> Rows:
        """All rows in one tensor for each name, copied a shard at a time."""
        held = {
            name: torch.empty((len(self.store), *shape), dtype=dtype, device=device)
            for name, (dtype, shape) in self.store.names.items()
            if name in self.names
        }
        for begin, shard in self.store.chunks(self.names):
            for name, x in shard.items():
                held[name][begin : begin + len(x)].copy_(x)
        return held

    def __len__(self) -> int:
        return len(self.store) if self._row is None else len(self._row)

    def gather(self, index: Tensor) -> Rows:
        """The tensors (B, …) of entries ``index`` (B,) on the device.

        Of a table on the device it is one lookup per name that waits for nothing, given ``index`` on the device.
        """
        self._within(index)
        if self.residency == "device":
            return self._lookup(index)
        return {name: x.to(self.device, non_blocking=True) for name, x in self._read(index.cpu()).items()}

    def prefetch(self, index: Tensor) -> Pending:
        """The same entries on their way: read in a background thread and copied on a stream of its own.

        An ``index`` on a device is waited for in the background, too.
        """
        self._within(index)
        if self.residency == "device":
            found: Future[tuple[Rows, Any]] = Future()
            found.set_result((self._lookup(index), None))
            return Pending(found)
        if self._stream is None:
            return Pending(self._reader.submit(lambda: (self.gather(index), None)))
        return Pending(self._reader.submit(self._fetch, index, torch.cuda.current_stream(self.device).record_event()))

    def close(self) -> None:
        """End the background thread."""
        self._reader.shutdown(cancel_futures=True)

    def _within(self, index: Tensor) -> None:
        """Refuse an entry that does not exist; on a device that would mean to wait."""
        if index.device.type == "cpu":
            outside = index[(index < 0) | (index >= len(self))]
            if len(outside):
                raise ValueError(f"{self.store.folder} has entries 0 to {len(self) - 1}, got {int(outside[0])}")

    def _lookup(self, index: Tensor) -> Rows:
        """Entries of a table on the device."""
        assert self._held is not None
        index = index.to(self.device, non_blocking=True)
        rows = index if self._row is None else self._row.index_select(0, index)
        return {name: x.index_select(0, rows) for name, x in self._held.items()}

    def _read(self, index: Tensor) -> Rows:
        """Entries in RAM, page-locked where there is CUDA; ``index`` is on the CPU."""
        rows = index.long() if self._row is None else self._row.index_select(0, index).long()
        if self._held is None:
            return self.store.gather(rows, self.names, pin=self._cuda)
        out = {
            name: torch.empty((len(rows), *x.shape[1:]), dtype=x.dtype, pin_memory=self._cuda)
            for name, x in self._held.items()
        }
        return {name: torch.index_select(x, 0, rows, out=out[name]) for name, x in self._held.items()}

    def _fetch(self, index: Tensor, known: torch.cuda.Event) -> tuple[Rows, Any]:
        """In the background: entries on the device, and the event after which they are there."""
        with torch.cuda.stream(self._stream):
            if index.is_cuda:
                self._stream.wait_event(known)
                index.record_stream(self._stream)
            moved = {name: x.to(self.device, non_blocking=True) for name, x in self._read(index.cpu()).items()}
            return moved, self._stream.record_event()
