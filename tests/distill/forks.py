"""Processes that run ``aria`` from the start, forked from this one, which has imported everything."""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.processes import Ended, Forked

ROOT = Path(__file__).resolve().parents[2]


class Forks:
    """Starts ``aria`` with arguments, waits for it, or both."""

    def __init__(self, folder: Path, warm: Path) -> None:
        """Opening the pipeline ``warm`` imports what would otherwise be imported in each process."""
        import aria.cli.commands.distill
        import aria.distill.runs.run  # noqa: F401
        from aria.distill.models.pipelines import open_pipeline

        self.folder = folder
        self._started: dict[int, Forked] = {}
        open_pipeline(warm)

    def start(self, *arguments: Any, env: Mapping[str, str] | None = None, module: bool = False) -> int:
        """As the command ``aria``, or as ``python -m aria.cli``."""
        output = self.folder / f"process-{len(self._started)}"
        variables = {"ACCELERATE_USE_CPU": "true", **(env or {})}
        process = Forked(lambda: _run(list(map(str, arguments)), module), output, variables)
        self._started[process.pid] = process
        return process.pid

    def wait(self, pid: int) -> Ended:
        return self._started[pid].wait()

    def run(self, *arguments: Any) -> Ended:
        return self.wait(self.start(*arguments))

    def done(self, *arguments: Any) -> Ended:
        """Run, and assert that it succeeded."""
        ended = self.run(*arguments)
        assert ended.code == 0, ended.stderr[-3000:]
        return ended

    def close(self) -> None:
        """Kill the processes that are still running."""
        for process in self._started.values():
            process.kill()


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
