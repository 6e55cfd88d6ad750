"""How far a command is, where no bar can be drawn: a plain line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 15.0
"""Seconds between two lines, at least."""
SPARSER = 20
"""Nor is there more than one line in this part of the time so far, so that a long run's log stays short."""


@contextmanager
def lines(
    label: str, *, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int, int], None]]:
    """Lines for ``say``, told (done, total): at once, now and then, and when all is done."""
    begun: float | None = None
    last, had, told = 0.0, 0, -1

    def progress(done: int, total: int) -> None:
        nonlocal begun, last, had, told
        now = clock()
        if begun is None:  # what came before the first word was no part of this work
            begun, had = now, done
        elif (done < total and now - last < max(EVERY, (now - begun) / SPARSER)) or done == told == total:
            return
        last, told = now, done
        say(f"{label}: {_told(done, total, now - begun, done - had)}")

    yield progress


def _told(done: int, total: int, gone: float, made: int) -> str:
    """``made`` of what is done was done in the ``gone`` seconds; the rest will take as long each.

    >>> _told(30, 120, 60.0, 30), _told(0, 4, 15.0, 0), _told(4, 4, 200.0, 4)
    ('30 of 120 (25 %), 60 s so far, about 3 min left', '0 of 4 (0 %), 15 s so far', '4 of 4 (100 %), 3 min')
    """
    said = f"{done} of {total} ({100 * done // max(total, 1)} %)"
    if gone < 1:
        return said
    if done >= total:
        return f"{said}, {_time(gone)}"
    left = f", about {_time(gone / made * (total - done))} left" if made else ""
    return f"{said}, {_time(gone)} so far{left}"


def _time(seconds: float) -> str:
    """
    >>> _time(89), _time(600), _time(9000)
    ('89 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
