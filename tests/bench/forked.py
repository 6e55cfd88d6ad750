"""Cells of a comparison on disk in processes that are forked, not started, since a cell imports for five seconds."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from pathlib import Path
from typing import Any, AnyStr, Generic

from tests.processes import Forked


class ForkedCell(Generic[AnyStr]):
    """What :class:`subprocess.Popen` is to :mod:`aria.bench.process_runner`, whose annotations give it a parameter.

    The process shares the modules that this one has imported, except those that were loaded from a user's files.
    """

    def __init__(self, command: list[str], *, stdout: Any, env: dict[str, str], **streams: Any) -> None:
        assert command[:3] == [sys.executable, "-m", "aria.bench.cell"]
        importlib.import_module("aria.distill.runs.run")  # once for all processes

        def work() -> None:
            os.environ.clear()
            os.environ.update(env)
            for name in [name for name in sys.modules if name.startswith("aria_plugin_")]:
                del sys.modules[name]
            sys.argv = command[2:]
            runpy.run_module("aria.bench.cell", run_name="__main__", alter_sys=True)

        self._process = Forked(work, Path(stdout.name))._process

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self) -> int | None:
        self._process.join()
        return self.returncode
