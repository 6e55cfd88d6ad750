"""Ranks in a test: processes forked off this one, which has imported everything, that train together on the CPU."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def variables(rank: int, ranks: int, where: str) -> dict[str, str]:
    """What torchrun tells a process."""
    told = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "RANK": rank, "LOCAL_RANK": rank}
    return {name: str(value) for name, value in told.items()} | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": where}


def on_ranks(work: Callable[..., None], folder: Path, *told: Any, ranks: int = 2, seconds: float = 400.0) -> None:
    """``work(*told)`` in each of ``ranks`` processes; what one of them raises is shown."""
    context, where = multiprocessing.get_context("fork"), port()
    folder.mkdir(parents=True, exist_ok=True)
    said = [folder / f"rank-{rank}" for rank in range(ranks)]
    started = [
        context.Process(target=_as_rank, args=(work, told, variables(rank, ranks, where), said[rank]))
        for rank in range(ranks)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(seconds)
        process.kill()
        process.join()
    errors = [path.read_text() for path in said if path.exists()]
    assert not errors and [process.exitcode for process in started] == [0] * ranks, "\n".join(errors)


def _as_rank(work: Callable[..., None], told: tuple[Any, ...], env: dict[str, str], said: Path) -> None:
    from accelerate.state import AcceleratorState

    os.environ.update(env)
    AcceleratorState._reset_state(reset_partial_state=True)
    code = 0
    try:
        work(*told)
    except BaseException:
        said.write_text(traceback.format_exc())
        code = 1
    os._exit(code)  # without what the parent would do at its end
