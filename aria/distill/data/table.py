"""A store served from where it is read fastest: the device, RAM or the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from aria import checks
from aria.distill.data.store import Store

Rows = dict[str, Tensor]
RESIDENCIES = ("device", "pinned", "disk")
DEVICE_BUDGET = 1 << 30
"""Bytes of device memory that a table takes by default."""


def half_of_memory() -> int:
    """Half of this machine's RAM in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


class Pending:
    """Rows that are being read; :meth:`result` waits for them. On CUDA only the current stream waits."""

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
    """Rows of a store, on ``device`` when requested; with ``row`` (N,), entry i is row ``row[i]``.

    Rows that no entry refers to are not loaded. ``entries`` are further tensors by name, one value an entry instead of
    one a row. ``residency`` is where the rows are meanwhile: all of them on the device; in RAM, from which batches pass
    through page-locked buffers where there is CUDA; or on the disk. By default it is the first of these that fits its
    budget.

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
        entries: Mapping[str, Tensor] | None = None,
        device: torch.device | str = "cpu",
        residency: str | None = None,
        device_budget: int = DEVICE_BUDGET,
        host_budget: int | None = None,
    ) -> None:
        self.store = store
        self.names = tuple(store.names if names is None else names)
        self.device = torch.device(device)
        self._row, self._live, self._entries = row, None, dict(entries or {})
        if row is not None and len(live := torch.unique(row)) < len(store):
            self._live = live  # (L,) the rows that entries refer to
        rows = len(store) if self._live is None else len(self._live)
        self.nbytes = rows * store.row_bytes(self.names)
        host_budget = half_of_memory() if host_budget is None else host_budget
        if residency is None:
            fits = (self.nbytes <= device_budget, self.nbytes <= host_budget, True)
            residency = RESIDENCIES[fits.index(True)]
        checks.one_of("residency", residency, RESIDENCIES)
        self.residency = residency
        self._held = None
        if residency != "disk":
            self._held = self._load(self.device if residency == "device" else "cpu")
            if row is not None and self._live is not None:
                self._row = torch.searchsorted(self._live, row)
        if residency == "device":
            self._row = None if self._row is None else self._row.to(self.device)
            self._entries = {name: x.to(self.device) for name, x in self._entries.items()}
        self._cuda = self.device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(self.device) if self._cuda else None  # type: ignore[no-untyped-call]
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="aria-read")  # its thread starts when first used

    def _load(self, device: torch.device | str) -> Rows:
        """All rows that entries refer to, in one tensor for each name, copied a shard at a time."""
        live = self._live
        held = {
            name: torch.empty((len(self.store) if live is None else len(live), *shape), dtype=dtype, device=device)
            for name, (dtype, shape) in self.store.names.items()
            if name in self.names
        }
        done = 0
        for begin, shard in self.store.chunks(self.names):
            end = begin + len(next(iter(shard.values())))
            within = None if live is None else live[(live >= begin) & (live < end)] - begin
            rows = end - begin if within is None else len(within)
            for name, x in shard.items():
                held[name][done : done + rows].copy_(x if within is None else x.index_select(0, within))
            done += rows
        return held

    def __len__(self) -> int:
        return len(self.store) if self._row is None else len(self._row)

    def gather(self, index: Tensor) -> Rows:
        """The tensors (B, …) of entries ``index`` (B,) on the device.

        For a table on the device this is one lookup per name without a sync, if ``index`` is on the device too.
        """
        self._within(index)
        if self.residency == "device":
            return self._lookup(index)
        return {name: x.to(self.device, non_blocking=True) for name, x in self._read(index.cpu()).items()}

    def prefetch(self, index: Tensor) -> Pending:
        """The same entries, read in a background thread and copied on a stream of its own.

        The thread also waits for an ``index`` that is on a device.
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
        """Refuse an entry that does not exist; an ``index`` on a device is not checked, which would be a sync."""
        if index.device.type == "cpu":
            outside = index[(index < 0) | (index >= len(self))]
            if len(outside):
                raise ValueError(f"{self.store.folder} has entries 0 to {len(self) - 1}, got {int(outside[0])}")

    def _lookup(self, index: Tensor) -> Rows:
        """Entries of a table on the device."""
        assert self._held is not None
        index = index.to(self.device, non_blocking=True)
        rows = index if self._row is None else self._row.index_select(0, index)
        found = {name: x.index_select(0, rows) for name, x in self._held.items()}
        return found | {name: x.index_select(0, index) for name, x in self._entries.items()}

    def _read(self, index: Tensor) -> Rows:
        """Entries in RAM, page-locked where there is CUDA; ``index`` is on the CPU."""
        rows = index.long() if self._row is None else self._row.index_select(0, index).long()
        if self._held is None:
            found = self.store.gather(rows, self.names, pin=self._cuda)
        else:
            found = {name: self._selected(x, rows) for name, x in self._held.items()}
        return found | {name: self._selected(x, index) for name, x in self._entries.items()}

    def _selected(self, x: Tensor, index: Tensor) -> Tensor:
        """``x[index]`` in memory from which it can be copied to the device."""
        out = torch.empty((len(index), *x.shape[1:]), dtype=x.dtype, pin_memory=self._cuda)
        return torch.index_select(x, 0, index, out=out)

    def _fetch(self, index: Tensor, indexed: torch.cuda.Event) -> tuple[Rows, Any]:
        """In the background: entries on the device, and the event after which they are there."""
        with torch.cuda.stream(self._stream):
            if index.is_cuda:
                self._stream.wait_event(indexed)
                index.record_stream(self._stream)
            moved = {name: x.to(self.device, non_blocking=True) for name, x in self._read(index.cpu()).items()}
            return moved, self._stream.record_event()
