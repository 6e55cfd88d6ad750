r"""Reads the discrepancy log of a training run in pieces, so that memory does not grow with the length of the log.

A log is JSONL, one object per line, or CSV with a header, in UTF-8. All rows are of the same one of two kinds:

======================================== ============================================================================
``step, region, value``                  one observation
``step, region, n, mean`` [``, square``] the mean of ``n`` observations and, optionally, the mean of their squares
======================================== ============================================================================

Steps and regions are whole numbers from 0; steps may not decrease. The rows of one step and region are one visit. If
rows of the second kind have a column ``update``, however, they sum up everything since the previous logged step: the
tracker has been updated ``update`` times so far, and ``visits`` of the updates since that step visited the region (1
without that column). Noise is estimated best if the scatter within a visit is known, from rows of ``value`` or from
``square``. Other columns, such as the probability ``q`` of a draw, are ignored, and so are rows with ``n`` 0.

An incomplete last line, which was being written when the run stopped, is ignored and sets :attr:`Log.torn`.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Parser = Callable[[list[bytes]], Array]
"""Converts lines to (7, rows) numbers, one row for each of :data:`COLUMNS`."""
COLUMNS = ("step", "region", "n", "mean", "square", "visits", "update")
DEFAULTS = {"n": 1.0, "square": math.nan, "visits": 1.0, "update": math.nan}
"""Values of optional columns that a log does not have."""

PIECE = 1 << 23
"""Bytes read at a time."""
MOST_REGIONS = 100_000
"""Region numbers are from 0 to below this."""
HUGE = 1e50
"""Upper bound of the values, so that nothing computed from them overflows."""
ROUNDED = 1e-4
"""Relative amount by which a mean of squares may be below the squared mean, in a log with few digits."""
COMPRESSED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"(\xb5/\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}
UNREADABLE = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""Exceptions that a parser may raise for lines that are not rows."""


class LogError(ValueError):
    """A log that cannot be read; the message is one line with the file and, if there is one, the line number."""


class LineError(ValueError):
    """Why one line cannot be read."""


class VisitTable(NamedTuple):
    """Visits in order of region and then step, one entry for each."""

    region: Whole
    step: Whole
    n: Array
    """Number of observations."""
    mean: Array
    within: Array
    """Sum of squared deviations from the mean, as far as the log has them."""
    freedom: Array
    """Degrees of freedom of ``within``."""
    visits: Array
    """Number of tracker updates that visited the region: 1, unless a row sums up several."""
    updates: Array
    """Number of tracker updates since the previous logged step; NaN in a log that does not count them."""


class Log:
    """A log on disk. ``rows``, ``torn`` and ``first`` are set when :meth:`visits` is exhausted.

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
            raise LogError(f"{self.path} is a folder: give the log file in it")
        self.size = self.path.stat().st_size  # raises if the file is missing
        self.rows = 0
        self.torn = False
        self.first: int | None = None
        self.last = 0
        self._counted: tuple[float, float] | None = None

    def visits(self, progress: Callable[[int, int], None] | None = None) -> Iterator[VisitTable]:
        """The visits, one piece of the log at a time; a visit is never split between two pieces."""
        self.rows, self.torn, self.first, self.last, self._counted = 0, False, None, 0, None
        held = np.empty((len(COLUMNS), 0))
        for rows, done in self._pieces():
            rows = np.concatenate([held, rows], axis=1)
            whole = int(np.searchsorted(rows[0], rows[0, -1])) if rows.shape[1] else 0
            held = rows[:, whole:]  # the last step may continue in the next piece
            if progress:
                progress(done, self.size)
            if whole:
                yield self._whole(rows[:, :whole])
        if held.shape[1]:
            yield self._whole(held)
        if not self.rows:
            raise LogError(f"{self.path.name} holds no rows{' except an incomplete last line' if self.torn else ''}")

    def _whole(self, rows: Array) -> VisitTable:
        """Convert complete steps, with the updates since the previous step in place of their total.

        The head of a log may be missing, so its first step gets as many updates as one of its regions needs.
        """
        step, visits, update = rows[0], np.maximum(rows[5], 1.0), rows[6]
        logged, first, place = np.unique(step, return_index=True, return_inverse=True)  # steps rise
        count, most = update[first], np.maximum.reduceat(visits, first)
        if self._counted is None:
            self._counted = (math.nan, float(count[0] - most[0]))
        gap, since = (np.diff(now, prepend=before) for now, before in zip((logged, count), self._counted))
        self._counted = (float(logged[-1]), float(count[-1]))
        if not math.isnan(count[0]):
            bad = (update != count[place]) | (since < 1)[place] | (since > gap)[place] | (visits > since[place])
            if bad.any():
                at = int(np.argmax(bad))
                raise LogError(
                    f"{self.path.name} step {step[at]:.0f}: update is {update[at]:g} with visits={visits[at]:g}, "
                    f"{since[place[at]]:g} more than before: it must count the tracker's updates, the same in all rows "
                    "of a step, at least one more than before and as many as visits, and no more than steps"
                )
        return _visits(np.vstack([rows[:5], visits, since[place]]))

    def _pieces(self) -> Iterator[tuple[Array, int]]:
        with self.path.open("rb") as file:
            parse, rest, number = self._start(file)
            while True:
                block = file.read(PIECE)
                text = rest + block
                end = text.rfind(b"\n") + 1
                text, rest = text[:end], text[end:]
                lines = text.split(b"\n")[:-1]
                yield self._checked(lines, number, parse), self.size if not block else file.tell()
                number += len(lines)
                if len(rest) > PIECE:
                    raise LogError(f"{self.path.name} line {number} is longer than {PIECE} bytes")
                if not block:
                    break
            if rest.strip():
                if _keys(rest) is not None:  # a whole object
                    yield self._checked([rest], number, parse), self.size
                else:
                    self.torn = True

    def _start(self, file: BinaryIO) -> tuple[Parser, bytes, int]:
        """The parser of the rows, the text already read to choose it, and the number of the first row's line."""
        head, number = file.readline(PIECE).removeprefix(b"\xef\xbb\xbf"), 1
        while head and not head.strip():
            head, number = file.readline(PIECE), number + 1
        if not head:
            raise LogError(f"{self.path.name} is empty: it holds no rows")
        for magic, name in COMPRESSED.items():
            if head.startswith(magic):
                raise LogError(f"{self.path.name} is compressed with {name}: unpack it first")
        try:
            text = head.decode()
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            raise LogError(f"{self.path.name} is not UTF-8 text")
        if text.lstrip()[0] == "[":
            raise LogError(f"{self.path.name} begins with a list: write one JSON object a line")
        if text.lstrip()[0] == "{":
            names = _keys(head)
            if names is not None:
                _check_names(names, self.path.name)
            return _jsonl_parser(names or ["value"]), head, number
        return _csv_parser(text, self.path.name), b"", number + 1

    def _checked(self, lines: list[bytes], number: int, parse: Parser) -> Array:
        """(7, rows) numbers from lines, the first of which is line ``number`` of the file."""
        filled = [line for line in lines if line.strip()]
        if not filled:
            return np.empty((len(COLUMNS), 0))
        try:
            rows = parse(filled)
        except UNREADABLE:
            raise LogError(self._explain(lines, number, parse)) from None
        step, region, n, mean, square, visits, update = rows
        least, last = (step[0] if self.first is None else self.last), step[-1]
        good = (
            (step == np.floor(step))
            & (step >= np.concatenate([[least], step[:-1]]))
            & (step >= 0)
            & (step < 2.0**53)
            & (region == np.floor(region))
            & (region >= 0)
            & (region < MOST_REGIONS)
            & (n == np.floor(n))
            & (n >= 0)
            & (n < 2.0**53)
            & ((np.abs(mean) < HUGE) | (n == 0))
            & (np.isnan(update) | ((update == np.floor(update)) & (update >= 0) & (update < 2.0**53)))
            & (((visits == np.floor(visits)) & (visits >= 0) & (visits <= n)) | (n == 0))
        )
        mean = np.where(good, mean, 0.0)
        good &= (n == 0) | np.isnan(square) | ((square >= (1 - ROUNDED) * mean**2) & (square < HUGE**2))
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

    def _explain(self, lines: list[bytes], number: int, parse: Parser) -> str:
        """The reason why the first unreadable line cannot be read."""
        for i, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                parse([line])
            except UNREADABLE as error:
                shown = line.decode("utf-8", "replace").strip()[:60]
                match error:
                    case KeyError():
                        reason = f"there is no {error}"
                    case LineError():
                        reason = str(error)
                    case _:
                        reason = "it cannot be read"
                return f"{self.path.name} line {number + i}: {reason} in {shown!r}"
        return f"{self.path.name} lines {number} to {number + len(lines) - 1} cannot be read"


def _fault(row: Array, before: float) -> str:
    step, region, n, mean, square, visits, update = (float(x) for x in row)
    if not (step >= 0 and step == np.floor(step) and step < 2.0**53):
        return f"step must be a whole number of at least 0, got {step:g}"
    if step < before:
        return f"steps go back from {before:.0f} to {step:.0f}: use one log per run, in order of its steps"
    if not (region == np.floor(region) and 0 <= region < MOST_REGIONS):
        return f"region must be a whole number from 0 to {MOST_REGIONS - 1}, got {region:.10g}"
    if not (n >= 0 and n == np.floor(n) and n < 2.0**53):
        return f"n must be a whole number of at least 0, got {n:g}"
    if not abs(mean) < HUGE:
        return f"the value must be finite and below {HUGE:g}, got {mean:g}"
    if not (math.isnan(update) or (0 <= update < 2.0**53 and update == np.floor(update))):
        return f"update must be a whole number of at least 0, got {update:g}"
    if not (0 <= visits <= n and visits == np.floor(visits)):
        return f"visits must be a whole number from 0 to n={n:g}, got {visits:g}"
    return f"square must be finite and at least the mean squared, {mean**2:g}, got {square:g}"


# ------------------------------------------------------------------------------------------------------------ formats


def _check_names(names: list[str], shown: str) -> None:
    wanted = ("step", "region", *_rest(names))
    if twice := [name for name in wanted if names.count(name) > 1]:
        raise LogError(f"{shown} has the column {twice[0]} more than once")
    lacking = [name for name in ("step", "region") if name not in names]
    if "value" not in names and not {"mean", "n"} <= set(names):
        lacking.append("value (or n and mean)")
    if lacking:
        known = ", ".join(name[:30] for name in names[:12])
        raise LogError(f"{shown} has no column {' and no column '.join(lacking)}; it has: {known or 'none'}")


def _rest(names: Collection[str]) -> tuple[str, ...]:
    """The columns that are read in addition to step and region."""
    if "value" in names:
        return ("value",)
    counted = ("visits", "update") if "update" in names else ()
    return ("n", "mean", *(name for name in ("square", *counted) if name in names))


def _rows(read: Array, names: Sequence[str]) -> Array:
    """(7, rows) from the columns with these names; a ``value`` is the mean of one observation."""
    columns = dict(zip(names, read))
    columns["mean"] = columns.pop("value", columns.get("mean"))
    return np.stack([columns.get(name, np.full(read.shape[1], DEFAULTS.get(name))) for name in COLUMNS])


def _csv_parser(head: str, shown: str) -> Parser:
    try:
        (cells,) = csv.reader([head.strip()], skipinitialspace=True)
    except csv.Error as error:
        raise LogError(f"{shown} line 1: {error}") from None
    names = [name.strip() for name in cells]
    if len(names) == 1 and any(other in head for other in ";\t"):
        raise LogError(f"{shown} must have cells separated by commas; its header is {head.strip()[:60]!r}")
    _check_names(names, shown)
    wanted = ("step", "region", *_rest(names))
    places = [names.index(name) for name in wanted]

    def parse(lines: list[bytes]) -> Array:
        if len(lines) == 1 and lines[0].decode("utf-8", "replace").strip() == head.strip():
            raise LineError("it is the header again: use one log per run")
        text = b"\n".join(lines)
        if b'"' not in text:
            commas = {line.count(b",") for line in lines} - {len(names) - 1}
            if commas:
                raise LineError(f"it has {commas.pop() + 1} cells, the header {len(names)}")
        read = np.loadtxt(
            io.BytesIO(text), delimiter=",", usecols=places, comments=None, ndmin=2, quotechar='"', encoding="utf-8"
        ).T
        if read.shape[1] != len(lines):
            raise ValueError
        return _rows(read, wanted)

    return parse


def _jsonl_parser(keys: list[str]) -> Parser:
    names = ("step", "region", *_rest(keys))

    def parse(lines: list[bytes]) -> Array:
        records = json.loads(b"[" + b",".join(lines) + b"]")
        if len(records) != len(lines):
            raise ValueError
        if not isinstance(records[0], dict):
            raise LineError("it is not a JSON object")
        return _rows(np.array([[record[name] for record in records] for name in names], dtype=np.float64), names)

    return parse


def _keys(line: bytes) -> list[str] | None:
    """The keys of a JSON object; None if the line is not one."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return list(record) if isinstance(record, dict) else None


def _visits(rows: Array) -> VisitTable:
    """Group (7, rows) by region and step."""
    step, region = rows[0].astype(np.int64), rows[1].astype(np.int64)
    order = np.lexsort((step, region))
    step, region = step[order], region[order]
    n, y, square, visits, updates = rows[2:, order]
    known = ~np.isnan(square)
    within = np.where(known, n * np.maximum(square - y**2, 0), 0.0)
    freedom = np.where(known, n - 1, 0.0)
    new = np.ones(step.size, dtype=bool)
    new[1:] = (np.diff(step) != 0) | (np.diff(region) != 0)
    start = np.flatnonzero(new)
    if start.size == step.size:
        return VisitTable(region, step, n, y, within, freedom, visits, updates)
    count = np.add.reduceat(n, start)
    mean = np.add.reduceat(n * y, start) / count
    at = np.cumsum(new) - 1
    within = np.add.reduceat(within + n * (y - mean[at]) ** 2, start)  # a mean of n scatters by s²/n
    freedom = np.add.reduceat(freedom + 1, start) - 1
    visits, updates = np.maximum.reduceat(visits, start), updates[start]
    return VisitTable(region[start], step[start], count, mean, within, freedom, visits, updates)
