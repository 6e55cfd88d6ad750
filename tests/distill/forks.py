"""Processes that run ``aria`` from the start, forked from this one, which has imported everything."""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.processes import Ended, Forked

ON_CPU = {"ACCELERATE_USE_CPU": "true"}
ROOT = Path(__file__).resolve().parents[2]


class Forks:
    """Starts ``aria`` with arguments, waits for it, or both."""

    def __init__(self, folder: Path, warm: Path, memory: int | None = None) -> None:
        """Opening the pipeline ``warm`` imports what would otherwise be imported in each process, which may take so
        many bytes of ``memory`` beyond those of this one."""
        import aria.cli.commands.distill
        import aria.distill.runs.run  # noqa: F401
        from aria.distill.models.pipelines import open_pipeline

        self.folder, self.memory = folder, memory
        self._started: dict[int, Forked] = {}
        self._count = 0
        open_pipeline(warm)

    def start(self, *arguments: Any, env: Mapping[str, str] | None = None, module: bool = False) -> int:
        """As the command ``aria``, or as ``python -m aria.cli``."""
        words, variables = list(map(str, arguments)), {**ON_CPU, **(env or {})}
        process = Forked(lambda: _run(words, module), self._output(), variables, self.memory)
        self._started[process.pid] = process
        return process.pid

    def wait(self, pid: int, seconds: float = 400.0) -> Ended:
        return self._started.pop(pid).wait(seconds)

    def run(self, *arguments: Any, seconds: float = 400.0) -> Ended:
        return self.wait(self.start(*arguments), seconds)

    def of(self, work: Callable[[], Any], seconds: float = 400.0) -> Ended:
        """Call ``work`` in a process of its own, to its end."""
        return Forked(lambda: _alone(work), self._output(), ON_CPU, self.memory).wait(seconds)

    def done(self, *arguments: Any) -> Ended:
        """Run, and assert that it succeeded."""
        ended = self.run(*arguments)
        assert ended.code == 0, ended.stderr[-3000:]
        return ended

    def _output(self) -> Path:
        """What the next process writes to."""
        self._count += 1
        return self.folder / f"process-{self._count}"

    def close(self) -> None:
        """Kill the processes that are still running."""
        for process in self._started.values():
            process.kill()


def _alone(work: Callable[[], Any]) -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    work()


def _run(arguments: list[str], module: bool) -> None:
    from accelerate.state import AcceleratorState

    from aria.cli import main

    AcceleratorState._reset_state(reset_partial_state=True)
    if module:
        sys.argv = ["aria", *arguments]
        runpy.run_module("aria.cli", run_name="__main__")
    else:
        main(arguments)


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until ``condition()`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)
