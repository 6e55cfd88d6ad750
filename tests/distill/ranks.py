"""Ranks in a test: processes forked from this one, which has imported everything, that train together on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.processes import Forked, rendezvous


def on_ranks(work: Callable[..., None], folder: Path, *arguments: Any, ranks: int = 2, seconds: float = 400.0) -> None:
    """``work(*arguments)`` in each of ``ranks`` processes; what one of them raises is shown."""

    def as_rank() -> None:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
        work(*arguments)

    folder.mkdir(parents=True, exist_ok=True)
    with rendezvous(ranks) as places:
        started = [Forked(as_rank, folder / f"rank-{rank}", env) for rank, env in enumerate(places)]
        ended = [process.wait(seconds) for process in started]
    assert [process.code for process in ended] == [0] * ranks, "\n".join(process.stderr for process in ended)
