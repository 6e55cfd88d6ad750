"""Rows of named tensors in a folder: written in shards, resumed after a kill, mapped into memory.

A store is ``shard-00000.safetensors``, … and an ``index.json`` that lists the shards that count. A shard is written
under another name and renamed; the index is replaced afterwards. So at whatever moment a process is killed, the index
lists only complete shards.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from copy import copy
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from aria import integrity
from aria.files import FOLDER_LOCK, Lock, lock, sweep
from aria.tensor_files import DTYPES, NAMES, digest, map_tensors, write_tensors

FORMAT, VERSION = "aria-store", 2
INDEX = "index.json"
SHARD_BYTES, SECONDS = 1 << 28, 120.0
"""A shard ends after so many bytes or so many seconds, whichever comes first: no more than that is lost to a kill."""
Fingerprint = Mapping[str, str | int | float | None]
"""What the rows depend on, part by part, so that a refusal can name the part that differs."""


def refuse_other(folder: Path, made_with: Fingerprint, expected: Fingerprint) -> None:
    """Refuse a store made with other settings, by the name of the first that differs."""
    for name in sorted(made_with.keys() | expected.keys()):
        had, has = made_with.get(name), expected.get(name)
        if had != has:
            raise ValueError(f"{folder} was made with {name} = {had!r}, this is {has!r}: use another folder")


class Writer:
    """Appends rows to a store until it holds ``total``; :attr:`rows` are on disk.

    A writer that was killed is resumed by another with the same fingerprint: it goes on after the last whole shard.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Writer(folder, {"encoder": "a"}, total=3) as writer:
    ...         writer.append({"x": torch.tensor([[1.0], [2.0], [3.0]])})
    ...     Store(folder).gather(torch.tensor([2, 0]))["x"].tolist()
    [[3.0], [1.0]]
    """

    def __init__(
        self,
        folder: str | Path,
        fingerprint: Fingerprint,
        total: int | None = None,
        *,
        shard_bytes: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """``total`` may be given later, by :meth:`expect`: once it is known which rows the store already has."""
        self.folder, self.total = Path(folder), total or 0
        self.shard_bytes = SHARD_BYTES if shard_bytes is None else shard_bytes
        self.seconds = SECONDS if seconds is None else seconds
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.folder)
        try:
            sweep(self.folder)
            self._index = self._opened(dict(fingerprint))
            if total is not None:
                self.expect(total)
        except BaseException:
            self._lock.close()
            raise
        self._pending: list[dict[str, Tensor]] = []
        self._bytes, self._since = 0, time.monotonic()

    def _opened(self, fingerprint: dict[str, Any]) -> dict[str, Any]:
        """The index of the store that is there, or a fresh one."""
        if not (self.folder / INDEX).exists():
            head: dict[str, Any] = {"format": FORMAT, "version": VERSION, "fingerprint": fingerprint}
            return head | {"rows": 0, "names": {}, "shards": []}
        index = _read_index(self.folder)
        refuse_other(self.folder, index["fingerprint"], fingerprint)
        return index

    def expect(self, total: int) -> None:
        """The store is finished once it holds ``total`` rows, and refused by readers until then."""
        if self.rows > total:
            raise ValueError(
                f"{self.folder} holds {self.rows} rows, more than the {total} asked for: "
                "ask for as many, or use another folder"
            )
        self.total = total
        if self._index.get("total") != total:
            self._index["total"] = total
            integrity.write(self.folder / INDEX, self._index)

    @property
    def rows(self) -> int:
        """Rows that are safely on disk."""
        return int(self._index["rows"])

    @property
    def pending(self) -> int:
        """Rows appended and not yet on disk."""
        return sum(_rows(chunk) for chunk in self._pending)

    def append(self, tensors: Mapping[str, Tensor]) -> None:
        """Add rows: tensors (n, …) of the names, types and shapes that the store has."""
        names = {n: {"dtype": NAMES[x.dtype], "shape": list(x.shape[1:])} for n, x in tensors.items()}
        self._index["names"] = self._index["names"] or names
        if names != self._index["names"]:
            raise ValueError(f"{self.folder} has rows of {self._index['names']}, got {names}")
        sizes = {name: len(x) for name, x in tensors.items()}
        (count,) = set(sizes.values()) if len(set(sizes.values())) == 1 else (None,)
        if count is None:
            raise ValueError(f"the tensors of a chunk must have the same number of rows, got {sizes}")
        if (held := self.rows + self.pending + count) > self.total:
            raise ValueError(f"{self.folder} is to hold {self.total} rows, got {held}")
        self._pending.append({name: x.detach().cpu() for name, x in tensors.items()})
        self._bytes += sum(x.numel() * x.element_size() for x in tensors.values())
        if self._bytes >= self.shard_bytes or time.monotonic() - self._since >= self.seconds:
            self.flush()

    def flush(self) -> None:
        """Write what is pending as one shard, then count it."""
        if self._pending:
            file = f"shard-{len(self._index['shards']):05d}.safetensors"
            pieces = {name: [chunk[name] for chunk in self._pending] for name in self._index["names"]}
            size = write_tensors(self.folder / file, pieces)
            rows = self.pending
            made = {"file": file, "rows": rows, "bytes": size, "sha256": digest(self.folder / file)}
            shards = [*self._index["shards"], made]
            index = self._index | {"rows": self.rows + rows, "shards": shards}
            integrity.write(self.folder / INDEX, index)
            self._index, self._pending, self._bytes = index, [], 0
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Write the rest: appended rows are valid whatever happened afterwards, unless the disk failed."""
        try:
            if kind is None or not issubclass(kind, OSError):
                self.flush()
        finally:
            self._lock.close()


class Store:
    """Reads rows of a finished store; only the requested rows are read from disk."""

    def __init__(self, folder: str | Path, fingerprint: Fingerprint | None = None) -> None:
        self.folder = Path(folder)
        index = _read_index(self.folder)
        self.fingerprint: dict[str, Any] = index["fingerprint"]
        if fingerprint is not None:
            refuse_other(self.folder, self.fingerprint, fingerprint)
        if index["rows"] < index["total"]:
            done = f"{index['rows']} of {index['total']} rows"
            raise ValueError(f"{self.folder} is unfinished, it holds {done}: run what writes it again to go on")
        self.names = _names(self.folder, index)
        self._place([self._mapped(shard) for shard in index["shards"]])

    def _place(self, shards: list[dict[str, Tensor]]) -> None:
        """Line the shards up, one after the other."""
        self._shards = shards
        sizes = torch.tensor([_rows(shard) for shard in shards], dtype=torch.int64)
        self._ends = sizes.cumsum(0)  # (S,)
        self._begins = self._ends - sizes  # (S,)

    def followed_by(self, other: Store) -> Store:
        """Both stores as one: the rows of this, then those of ``other``."""
        if other.names != self.names:
            raise ValueError(f"{other.folder} has {other.names}, {self.folder} has {self.names}: they cannot be joined")
        joined = copy(self)
        joined._place([*self._shards, *other._shards])
        return joined

    def _mapped(self, shard: dict[str, Any]) -> dict[str, Tensor]:
        tensors, _ = map_tensors(self.folder / shard["file"])
        found = {name: (x.dtype, tuple(x.shape)) for name, x in tensors.items()}
        expected = {name: (dtype, (shard["rows"], *shape)) for name, (dtype, shape) in self.names.items()}
        if found != expected:
            raise ValueError(f"{self.folder / shard['file']} holds {found}, the index lists {expected}")
        return tensors

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def row_bytes(self, names: Iterable[str] | None = None) -> int:
        """Bytes of one row of some names."""
        kept = [self.names[name] for name in (self.names if names is None else names)]
        return sum(dtype.itemsize * math.prod(shape) for dtype, shape in kept)

    def nbytes(self, names: Iterable[str] | None = None) -> int:
        """Bytes of all rows of some names."""
        return len(self) * self.row_bytes(names)

    def gather(self, rows: Tensor, names: Iterable[str] | None = None, *, pin: bool = False) -> dict[str, Tensor]:
        """The tensors (B, …) of ``rows`` (B,), in page-locked memory if ``pin``."""
        rows = rows.long().cpu().contiguous()
        outside = (rows < 0) | (rows >= len(self))
        if bool(outside.any()):
            raise ValueError(f"{self.folder} has rows 0 to {len(self) - 1}, got {int(rows[outside][0])}")
        kept = {name: self.names[name] for name in (self.names if names is None else names)}
        out = {name: torch.empty((len(rows), *s), dtype=d, pin_memory=pin) for name, (d, s) in kept.items()}
        shard = torch.bucketize(rows, self._ends, right=True)
        order = shard.argsort(stable=True)
        counts = torch.bincount(shard, minlength=len(self._shards))
        ends = counts.cumsum(0)
        for s in counts.nonzero().flatten().tolist():
            where = order[ends[s] - counts[s] : ends[s]]
            local = rows[where] - self._begins[s]
            for name, tensor in out.items():
                if len(where) == len(rows):  # one shard holds them all: straight into the result
                    torch.index_select(self._shards[s][name], 0, rows - self._begins[s], out=tensor)
                else:
                    tensor.index_copy_(0, where, self._shards[s][name].index_select(0, local))
        return out

    def chunks(self, names: Iterable[str]) -> Iterable[tuple[int, dict[str, Tensor]]]:
        """Every shard's first row and its tensors of some names, still on the disk."""
        names = list(names)
        for begin, shard in zip(self._begins.tolist(), self._shards):
            yield begin, {name: shard[name] for name in names}


def written(folder: Path, name: str, width: int) -> Tensor:
    """(R, width) int64: one tensor of all rows that are safely in a store, finished or not; R = 0 without a store."""
    shards = _read_index(folder)["shards"] if (folder / INDEX).exists() else ()
    parts = [map_tensors(folder / shard["file"])[0][name] for shard in shards]
    return torch.cat([torch.empty((0, width), dtype=torch.int64), *parts])


def made_with(folder: Path) -> dict[str, Any]:
    """The fingerprint of a store, finished or not; empty without a store."""
    return dict(_read_index(folder)["fingerprint"]) if (folder / INDEX).exists() else {}


def _rows(chunk: Mapping[str, Tensor]) -> int:
    return len(next(iter(chunk.values())))


def _read_index(folder: Path) -> dict[str, Any]:
    """The index of a store, checked against the files it lists."""
    if not (folder / INDEX).is_file():
        raise ValueError(f"{folder} is no tensor store: it has no {INDEX}")
    index = integrity.read(folder / INDEX)
    if index.get("format") != FORMAT or index.get("version") != VERSION:
        found = f"{index.get('format')!r} version {index.get('version')!r}"
        raise ValueError(f"{folder} is no tensor store of this version: {INDEX} has {found}, not {FORMAT!r} {VERSION}")
    try:
        for shard in index["shards"]:
            path = folder / shard["file"]
            size = path.stat().st_size if path.is_file() else None
            if size != shard["bytes"]:
                found = "missing" if size is None else f"torn: it has {size} bytes, not {shard['bytes']}"
                raise ValueError(f"{path} is {found}")
            if digest(path) != shard["sha256"]:
                raise ValueError(f"{path} is not the shard that was written")
        if index["rows"] != sum(shard["rows"] for shard in index["shards"]) or index["rows"] > index["total"]:
            raise ValueError(f"{folder / INDEX}: its rows do not add up")
        if not isinstance(index["fingerprint"], dict) or not isinstance(index["names"], dict):
            raise TypeError("a name or the fingerprint is no object")
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / INDEX} is damaged: {error!r}") from None
    return index


def _names(folder: Path, index: Mapping[str, Any]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Type and shape of a row of each tensor."""
    try:
        return {name: (DTYPES[entry["dtype"]], tuple(entry["shape"])) for name, entry in index["names"].items()}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / INDEX} is damaged: {error!r} in its entries of tensors") from None


def _locked(folder: Path) -> Lock:
    """An open file that keeps other writers out until it is closed, by whatever ends this process."""
    try:
        return lock(folder / FOLDER_LOCK)
    except BlockingIOError:
        raise ValueError(f"another process is writing to {folder}") from None
