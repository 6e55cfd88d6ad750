"""Operations on small tensors, kept whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class _Threads:
    """How many runs need torch not to split operations, and how many threads it had before the first of them."""

    lock = threading.Lock()
    runs = 0
    before = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch from splitting an operation between threads, here and in threads begun within.

    For small tensors: handing parts of an operation round costs more than it saves, and ten to a hundred times as much
    where another program has the second core.

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
