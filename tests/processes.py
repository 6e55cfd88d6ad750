"""Programs in processes forked from this one, which has imported everything, since imports are slow.

A forked process is a real one: it can be killed, has its own output and environment, and what it changes is its own.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import runpy
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it wrote; the code of a killed one is minus the signal's number."""

    code: int
    stdout: str
    stderr: str


class Forked:
    """``work()`` in a process of its own. What it writes goes to files ``output.out`` and ``output.err``.

    ``memory`` bounds the bytes of address space that it may take beyond what it begins with.
    """

    def __init__(
        self,
        work: Callable[[], Any],
        output: Path,
        env: Mapping[str, str] | None = None,
        memory: int | None = None,
    ) -> None:
        self._files = output.with_name(f"{output.name}.out"), output.with_name(f"{output.name}.err")
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_run, args=(work, *self._files, dict(env or {}), memory))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def wait(self, seconds: float = 400.0) -> Ended:
        """Until it ends; a process that takes longer is killed."""
        self._process.join(seconds)
        self.kill()
        assert self._process.exitcode is not None
        return Ended(self._process.exitcode, *(path.read_text() if path.exists() else "" for path in self._files))


def script(path: Path, *arguments: object, filters: str = "default") -> Callable[[], None]:
    """The work of ``python path arguments``; with ``filters="error"`` that of ``python -W error``."""

    def work() -> None:
        sys.argv = [str(path), *map(str, arguments)]
        sys.path.insert(0, str(path.parent))
        warnings.resetwarnings()
        warnings.simplefilter(filters)  # type: ignore[arg-type]  # a name of an action
        runpy.run_path(str(path), run_name="__main__")

    return work


def run_script(path: Path, *arguments: object, output: Path, filters: str = "default") -> Ended:
    """Run a script in a forked process to its end."""
    return Forked(script(path, *arguments, filters=filters), output).wait()


def _run(work: Callable[[], Any], out: Path, err: Path, env: dict[str, str], memory: int | None) -> None:
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ.update(env)
    _as_a_fresh_interpreter()
    if memory is not None:
        _limit(memory)
    code = 0
    try:
        work()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # without what pytest does at its end


def _limit(memory: int) -> None:
    """Let this process take so many bytes more; where the system does not say what it has, without a limit."""
    import resource

    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return
    most = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _as_a_fresh_interpreter() -> None:
    """Take back what pytest and earlier tests have changed: the standard streams, the handlers of the log, the filters
    of warnings, the precision that accelerate keeps for a whole process."""
    if (accelerate := sys.modules.get("accelerate.state")) is not None:
        accelerate.AcceleratorState._reset_state(reset_partial_state=True)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    logging.root.handlers.clear()
    for logger in logging.root.manager.loggerDict.values():
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                handler.setStream(sys.stderr)
    warnings.resetwarnings()
    warnings.filterwarnings("default", category=DeprecationWarning, module="__main__")
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.filterwarnings("ignore", category=category, append=True)
    warnings.showwarning = _show


def _show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: str | None = None) -> None:
    print(warnings.formatwarning(message, category, filename, lineno, line), file=file or sys.stderr, end="")


@contextmanager
def rendezvous(ranks: int) -> Iterator[list[dict[str, str]]]:
    """The environment variables of each of ``ranks`` processes that train together, as torchrun sets them.

    The store at which they meet is in this process, so its port cannot be taken by another program.
    """
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    common = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port}
    common |= {"TORCHELASTIC_USE_AGENT_STORE": True}
    each = [common | {"RANK": rank, "LOCAL_RANK": rank} for rank in range(ranks)]
    yield [{name: str(value) for name, value in variables.items()} for variables in each]
    del store
