r"""Reads the discrepancy log of a training run, in pieces: memory does not grow with the length of the log.

A log is JSONL or CSV, one observation a line with ``step``, ``region`` and ``value``, or the mean of several with
``step``, ``region``, ``n`` and ``mean``. Other columns are passed over, and so are lines with ``n`` 0. Steps may not go
back. Lines of one step and region are one visit; those of ``value`` also show the noise within it.

A last line without its end was being written when the run stopped: it is left out, and :attr:`Log.torn` says so.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

PIECE = 1 << 23
"""Bytes read at a time."""
MOST_REGIONS = 100_000
"""Regions are numbered from 0 to below this."""


class LogError(ValueError):
    """A log that cannot be read; the message is one line with the file and, where there is one, the line."""


class VisitTable(NamedTuple):
    """Visits in order of region and then step, one entry each."""

    region: Whole
    step: Whole
    n: Array
    """Number of observations."""
    mean: Array
    within: Array
    """Sum of squared deviations from the mean, over those observations that are in the log one by one."""
    freedom: Array
    """Degrees of freedom of ``within``."""


class Log:
    """A log on disk. ``rows``, ``torn`` and ``first`` are known once :meth:`visits` has come to its end.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "run.csv"
    ...     _ = path.write_text("step,region,value\\n0,1,2.0\\n0,1,4.0\\n1,0,5.0\\n2,0,6.")
    ...     log = Log(path)
    ...     [(v.region.tolist(), v.mean.tolist(), v.within.tolist()) for v in log.visits()], log.torn
    ([([1], [3.0], [2.0]), ([0], [5.0], [0.0])], True)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise LogError(f"{self.path} is a folder: name the log in it")
        self.size = self.path.stat().st_size  # a missing file says so here
        self.rows = 0
        self.torn = False
        self.first: int | None = None
        self.last = 0

    def visits(self, progress: Callable[[int, int], None] | None = None) -> Iterator[VisitTable]:
        """The visits, a piece of the log at a time; a visit is never split between two pieces."""
        self.rows, self.torn, self.first, self.last = 0, False, None, 0
        held = np.empty((4, 0))
        for rows, done in self._pieces():
            rows = np.concatenate([held, rows], axis=1)  # (4, rows): step, region, n, mean
            whole = int(np.searchsorted(rows[0], rows[0, -1])) if rows.shape[1] else 0
            held = rows[:, whole:]  # the last step may go on in the next piece
            if progress:
                progress(done, self.size)
            if whole:
                yield _visits(rows[:, :whole])
        if held.shape[1]:
            yield _visits(held)
        if not self.rows:
            raise LogError(f"{self.path.name} holds no rows")

    def _pieces(self) -> Iterator[tuple[Array, int]]:
        with self.path.open("rb") as file:
            head = file.readline()
            while head and not head.strip():
                head = file.readline()
            if not head:
                raise LogError(f"{self.path.name} is empty: it holds no rows")
            if head.lstrip()[:1] == b"{":
                names = _keys(head)
                problem = None if names is None else _missing(names, self.path.name)
                if problem:
                    raise LogError(problem)
                file.seek(0)
                parse: Callable[[list[bytes]], Array] = _parse_jsonl
                number = 1
            else:
                parse = _csv_parser(head, self.path.name)
                number = 2
            rest = b""
            while True:
                block = file.read(PIECE)
                text = rest + block
                end = text.rfind(b"\n") + 1
                text, rest = text[:end], text[end:]
                lines = text.split(b"\n")[:-1]
                yield self._checked(lines, number, parse), file.tell()
                number += len(lines)
                if not block:
                    break
            if rest.strip():
                if parse is _parse_jsonl and _whole_json(rest):
                    yield self._checked([rest], number, parse), file.tell()
                else:
                    self.torn = True

    def _checked(self, lines: list[bytes], number: int, parse: Callable[[list[bytes]], Array]) -> Array:
        """(4, rows) numbers out of lines, of which the first is the ``number``-th of the file."""
        filled = [line for line in lines if line.strip()]
        if not filled:
            return np.empty((4, 0))
        try:
            rows = parse(filled)
        except (ValueError, TypeError, KeyError, OverflowError):
            raise LogError(self._explain(lines, number, parse)) from None
        step, region, n, mean = rows
        least, last = (step[0] if self.first is None else self.last), step[-1]
        good = (
            (step == np.floor(step))
            & (step >= np.concatenate([[least], step[:-1]]))
            & (step >= 0)
            & (step < 2.0**53)
            & (region == np.floor(region))
            & (region >= 0)
            & (region < MOST_REGIONS)
            & (n >= 0)
            & np.isfinite(n)
            & (np.isfinite(mean) | (n == 0))
        )
        if not good.all():
            at = int(np.argmin(good))
            where = [i for i, line in enumerate(lines) if line.strip()][at] + number
            before = least if at == 0 else step[at - 1]
            raise LogError(f"{self.path.name} line {where}: {_fault(rows[:, at], before)}")
        if self.first is None:
            self.first = int(step[0])
        self.last = int(last)
        rows = rows[:, n > 0]
        self.rows += rows.shape[1]
        return rows

    def _explain(self, lines: list[bytes], number: int, parse: Callable[[list[bytes]], Array]) -> str:
        """What is wrong with the first line that cannot be read."""
        for i, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                parse([line])
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                shown = line.decode("utf-8", "replace").strip()[:60]
                reason = f"there is no {error}" if isinstance(error, KeyError) else "it cannot be read"
                return f"{self.path.name} line {number + i}: {reason} in {shown!r}"
        return f"{self.path.name} lines {number} to {number + len(lines)} cannot be read"


def _fault(row: Array, before: float) -> str:
    step, region, n, mean = (float(x) for x in row)
    if not (step >= 0 and step == np.floor(step) and step < 2.0**53):
        return f"step must be a whole number of at least 0, got {step:g}"
    if step < before:
        return f"steps go back from {before:.0f} to {step:.0f}: give the part of each run by itself"
    if not (region == np.floor(region) and 0 <= region < MOST_REGIONS):
        return f"region must be a whole number from 0 to {MOST_REGIONS - 1}, got {region:g}"
    if not (n >= 0 and np.isfinite(n)):
        return f"n must be non-negative and finite, got {n:g}"
    return f"the value must be finite, got {mean:g}"


# ------------------------------------------------------------------------------------------------------------ formats


def _missing(names: list[str], shown: str) -> str | None:
    lacking = [name for name in ("step", "region") if name not in names]
    if "value" not in names and not {"mean", "n"} <= set(names):
        lacking.append("value (or mean and n)")
    if not lacking:
        return None
    known = ", ".join(name[:30] for name in names[:12])
    return f"{shown} has no column {' and no column '.join(lacking)}; it has: {known or 'none'}"


def _csv_parser(head: bytes, shown: str) -> Callable[[list[bytes]], Array]:
    names = [name.strip().strip('"') for name in head.decode("utf-8-sig", "replace").strip().split(",")]
    problem = _missing(names, shown)
    if problem:
        raise LogError(problem)
    single = "value" in names
    wanted = [names.index(name) for name in ("step", "region", *(["value"] if single else ["n", "mean"]))]

    def parse(lines: list[bytes]) -> Array:
        text = io.BytesIO(b"\n".join(lines))
        read = np.loadtxt(text, delimiter=",", usecols=wanted, dtype=np.float64, comments=None, ndmin=2).T
        if read.shape[1] != len(lines):
            raise ValueError
        return np.stack([read[0], read[1], np.ones(len(lines)), read[2]]) if single else read

    return parse


def _parse_jsonl(lines: list[bytes]) -> Array:
    records = json.loads(b"[" + b",".join(lines) + b"]")
    if len(records) != len(lines):
        raise ValueError
    first = records[0]
    if not isinstance(first, dict):
        raise TypeError
    single = "value" in first
    names = ("step", "region", "value") if single else ("step", "region", "n", "mean")
    read = [np.array([record[name] for record in records], dtype=np.float64) for name in names]
    return np.stack([read[0], read[1], np.ones(len(records)), read[2]] if single else read)


def _keys(line: bytes) -> list[str] | None:
    """The keys of a JSON object; None if the line is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return list(record) if isinstance(record, dict) else None


def _whole_json(line: bytes) -> bool:
    return _keys(line) is not None


def _visits(rows: Array) -> VisitTable:
    """(4, rows) put together by region and step."""
    step, region = rows[0].astype(np.int64), rows[1].astype(np.int64)
    order = np.lexsort((step, region))
    step, region, n, y = step[order], region[order], rows[2][order], rows[3][order]
    new = np.ones(step.size, dtype=bool)
    new[1:] = (np.diff(step) != 0) | (np.diff(region) != 0)
    start = np.flatnonzero(new)
    if start.size == step.size:
        return VisitTable(region, step, n, y, np.zeros_like(y), np.zeros_like(y))
    count = np.add.reduceat(n, start)
    mean = np.add.reduceat(n * y, start) / count
    visit = np.cumsum(new) - 1
    within = np.add.reduceat(n * (y - mean[visit]) ** 2, start)  # a mean of n scatters by s²/n
    freedom = np.diff(np.append(start, step.size)) - 1.0
    return VisitTable(region[start], step[start], count, mean, within, freedom)
