"""Work distributed over threads, each torch operation on a single thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from aria.threads import one_thread

Result = TypeVar("Result")
Tick = Callable[[int], None]
"""Called by a thread with the amount of work since its last call."""


def in_threads(
    work: Callable[[int, Tick], Result], count: int, workers: int, progress: Callable[[int], None]
) -> Iterator[Result]:
    """``work(0, tick)`` to ``work(count - 1, tick)`` in order; at most two per thread are running or queued.

    ``progress`` is called from the calling thread with the sum of all ticks. A thread that ticks after the caller has
    stopped iterating is stopped.
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
    """Work done so far by all threads; also stops threads whose result is no longer needed."""

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
    """The next ``count`` items, or as many as are left."""
    for _, item in zip(range(count), items, strict=False):
        yield item
