"""Work shared out to threads whose torch operations stay whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from aria.threads import one_thread

Result = TypeVar("Result")
Tick = Callable[[int], None]
"""Called by a thread with what it has done since it last called."""


def in_threads(
    work: Callable[[int, Tick], Result], count: int, workers: int, progress: Callable[[int], None]
) -> Iterator[Result]:
    """``work(0, tick)`` to ``work(count - 1, tick)`` in order; at most two per thread are under way or waiting.

    ``progress`` is called from the calling thread with the sum of all ticks. A thread that ticks after the caller has
    gone is stopped.
    """
    counter = _Counter()

    def run(index: int) -> Result:
        with torch.inference_mode():
            return work(index, counter.tick)

    with one_thread(), ThreadPoolExecutor(min(workers, count)) as pool:
        try:
            waiting: list[Future[Result]] = []
            todo = iter(range(count))
            while True:
                for index in _up_to(2 * workers - len(waiting), todo):
                    waiting.append(pool.submit(run, index))
                if not waiting:
                    return
                while not wait(waiting[:1], timeout=0.1, return_when=FIRST_COMPLETED).done:
                    progress(counter.done)
                result = waiting.pop(0).result()
                progress(counter.done)
                yield result
        finally:
            counter.stopped = True


class _Counter:
    """What is done so far, added to by all threads; a thread learns here that it should stop."""

    def __init__(self) -> None:
        self.done = 0
        self.stopped = False
        self._lock = threading.Lock()

    def tick(self, done: int) -> None:
        if self.stopped:
            raise _Stopped
        with self._lock:
            self.done += done


class _Stopped(Exception):
    pass


def _up_to(count: int, items: Iterable[int]) -> Iterator[int]:
    """The next ``count`` items, fewer where they run out."""
    for _, item in zip(range(count), items, strict=False):
        yield item
