"""Keep operations on small tensors on one thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class _Threads:
    """How many callers need torch on one thread, and how many threads it had before the first of them."""

    lock = threading.Lock()
    runs = 0
    before = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch from splitting an operation between threads, here and in threads started inside.

    For small tensors, distributing an operation costs more than it saves, and ten to a hundred times as much while
    another program occupies the second core.

    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    with _Threads.lock:
        if _Threads.runs == 0:
            _Threads.before = torch.get_num_threads()
            torch.set_num_threads(1)
        _Threads.runs += 1
    try:
        yield
    finally:
        with _Threads.lock:
            _Threads.runs -= 1
            if _Threads.runs == 0:
                torch.set_num_threads(_Threads.before)
