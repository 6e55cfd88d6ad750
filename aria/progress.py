"""Progress of long work on standard error: a tqdm bar on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

INTERVAL = 15.0
"""Least number of seconds between two plain lines."""
SHARE = 20
"""Two plain lines are also at least one ``SHARE``-th of the elapsed time apart, so that long logs stay short."""

Report = Callable[[int, int], None]
"""Called with the number of items that are done and the number there are."""
Bar = Callable[[str], AbstractContextManager[Report]]
"""Opens a progress bar with the given label. :func:`bar` and :func:`silent` are both of this type."""


class Progress(AbstractContextManager["Progress"]):
    """A running progress display; call it with (done, total).

    Values for the reader, such as the current loss, are set with :meth:`show`.
    """

    def __init__(self, label: str) -> None:
        self.label = label

    def __call__(self, done: int, total: int) -> None:
        """Display nothing."""

    def show(self, **values: str) -> None:
        """Display these values beside the progress from now on."""

    def close(self) -> None:
        """End the display."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Terminal(Progress):
    """A tqdm bar."""

    def __init__(self, label: str) -> None:
        from tqdm import tqdm

        super().__init__(label)
        self._bar: Any = tqdm(desc=label, file=sys.stderr, dynamic_ncols=True)
        self._started = False

    def __call__(self, done: int, total: int) -> None:
        if not self._started:  # items that were done before the first call say nothing about the speed
            self._bar.reset(total)
            self._bar.initial = self._bar.n = self._bar.last_print_n = done
            self._bar.refresh()
            self._started = True
            return
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def show(self, **values: str) -> None:
        self._bar.set_postfix(values, refresh=False)

    def close(self) -> None:
        self._bar.close()


class Lines(Progress):
    """A line at the first call, one every ``INTERVAL`` seconds or more, and one when everything is done."""

    def __init__(
        self, label: str, *, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(label)
        self._write, self._clock = write, clock
        self._started: float | None = None
        self._first, self._last_done, self._last_time = 0, -1, 0.0
        self._values = ""

    def __call__(self, done: int, total: int) -> None:
        now = self._clock()
        if self._started is None:  # items that were done before the first call say nothing about the speed
            self._started, self._first = now, done
        elif done == self._last_done == total or (done < total and now - self._last_time < self._pause(now)):
            return
        self._last_done, self._last_time = done, now
        self._write(f"{self.label}: {_line(done, total, now - self._started, done - self._first)}{self._values}")

    def _pause(self, now: float) -> float:
        assert self._started is not None
        return max(INTERVAL, (now - self._started) / SHARE)

    def show(self, **values: str) -> None:
        self._values = "".join(f", {name} {value}" for name, value in values.items())


def bar(label: str, *, hidden: bool = False) -> Progress:
    """Open a progress display on standard error; a hidden one displays nothing.

    >>> with bar("steps", hidden=True) as progress:
    ...     progress(1, 10)
    """
    if hidden:
        return Progress(label)
    return Terminal(label) if sys.stderr.isatty() else Lines(label, write=_to_stderr)


def silent(label: str) -> Progress:
    """A :data:`Bar` that displays nothing."""
    return Progress(label)


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _line(done: int, total: int, elapsed: float, new: int) -> str:
    """``new`` items were completed in the ``elapsed`` seconds; the rest is assumed to go on at the same speed.

    >>> _line(30, 120, 60.0, 30), _line(0, 4, 15.0, 0), _line(4, 4, 200.0, 4)
    ('30 of 120 (25 %), 60 s so far, about 3 min left', '0 of 4 (0 %), 15 s so far', '4 of 4 (100 %), 3 min')
    """
    count = f"{done} of {total} ({100 * done // max(total, 1)} %)"
    if elapsed < 1:
        return count
    if done >= total:
        return f"{count}, {_time(elapsed)}"
    left = f", about {_time(elapsed / new * (total - done))} left" if new else ""
    return f"{count}, {_time(elapsed)} so far{left}"


def _time(seconds: float) -> str:
    """
    >>> _time(89), _time(600), _time(9000)
    ('89 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
