"""Runs tests on changed source, each run in a forked child; nothing is written to the working tree."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import math
import os
import resource
import signal
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.mutations.changes import Mutation
from benchmarks.mutations.record import Result
from benchmarks.mutations.sources import LEFT_OUT


def prepare(modules: tuple[str, ...]) -> None:
    """Import the libraries that all children share, and turn off shrinking in property tests."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HYPOTHESIS_PROFILE": "mutations"}
    for name in ("pytest", *modules):
        importlib.import_module(name)
    from hypothesis import HealthCheck, Phase, settings

    settings.register_profile(
        "mutations",
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    gc.collect()
    gc.freeze()


class Overlay(MetaPathFinder, Loader):
    """Import hook that loads one module from changed source, as if its file contained it."""

    def __init__(self, root: Path, file: str, source: str) -> None:
        self.path = root / file
        package = self.path.name == "__init__.py"
        self.name = ".".join(Path(file).with_suffix("").parts[: -1 if package else None])
        self.source, self.folder = source, [str(self.path.parent)] if package else None
        self.used = False

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=self, submodule_search_locations=self.folder
        )

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        self.used = True
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)

    def is_package(self, fullname: str) -> bool:
        return self.folder is not None

    def get_source(self, fullname: str) -> str:
        return self.source


class FirstFailure:
    """A pytest plug-in that installs the change and records the first test to fail, and its error."""

    def __init__(self, overlay: Overlay | None) -> None:
        self.test = self.error = ""
        self.overlay = overlay

    def pytest_sessionstart(self) -> None:
        # Not earlier: pytest puts its own importer first when it starts, and that one would load the file.
        if self.overlay is not None:
            sys.meta_path.insert(0, self.overlay)

    def _note(self, report: Any) -> None:
        if report.failed and not self.test:
            self.test = report.nodeid
            crash = getattr(report.longrepr, "reprcrash", None)
            lines = (crash.message if crash else str(report.longrepr)).strip().splitlines() or [""]
            line = lines[0] if crash else lines[-1]
            self.error = line.replace(f"{Path.cwd()}/", "")[:200]

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._note(report)

    def pytest_collectreport(self, report: Any) -> None:
        self._note(report)


@dataclass
class Running:
    """A running child."""

    process: int
    began: float
    report: Path
    mutation: Mutation
    stage: int
    limit: float  # seconds of processor time


@dataclass
class Laboratory:
    """Forks a child for every run of tests on changed source."""

    root: Path
    scratch: Path
    own: dict[str, tuple[list[str], list[str]]]  # for each file: the tests named after it, and its neighbours' tests
    stages: int = 3
    patience: float = 60.0  # seconds in addition to four times the tests' time without a change

    def arguments(self, file: str, stage: int) -> list[str]:
        if stage < 2:
            return self.own[file][stage]
        paths = tomllib.loads((self.root / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["testpaths"]
        return [*paths, *(f"--ignore={path}" for path in [*LEFT_OUT, *self.own[file][0], *self.own[file][1]])]

    def start(self, mutation: Mutation, stage: int, tests: list[str], limit: float, changed: bool = True) -> Running:
        handle, name = tempfile.mkstemp(dir=self.scratch)
        os.close(handle)
        file, source = mutation.file, None
        if changed:
            source = mutation.apply((self.root / file).read_text())
        process = os.fork()
        if process == 0:
            try:
                resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit) + 5))
                self._child(source, file, tests, Path(name))
            except BaseException as error:  # a child must not return into the parent's loop
                Path(name).write_text(json.dumps({"code": 70, "test": "", "error": repr(error)}))
            finally:
                os._exit(70)
        with contextlib.suppress(OSError):  # the child may have done it already, or have ended
            os.setpgid(process, process)
        return Running(process, time.monotonic(), Path(name), mutation, stage, limit)

    def _child(self, source: str | None, file: str, tests: list[str], report: Path) -> None:
        """Run the tests, write the result, and exit without cleaning up the parent's state."""
        import pytest

        os.setpgid(0, 0)
        log = os.open(report.with_suffix(".log"), os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1), os.dup2(log, 2)
        os.chdir(self.root)
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(self.scratch)  # compiled once, outside the tree
        sys.path[0] = str(self.root)
        first = FirstFailure(None if source is None else Overlay(self.root, file, source))
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:anyio", "-W", "ignore:Module already imported"]
        code = int(pytest.main([*options, *tests], plugins=[first]))
        if first.overlay is not None and not first.overlay.used:
            raise AssertionError(f"no test imported {file}")
        report.write_text(json.dumps({"code": code, "test": first.test, "error": first.error}))
        sys.stdout.flush()
        os._exit(0)

    def finish(self, run: Running) -> Result | None:
        """The result of a child; None while it is running.

        Its limit is in seconds of processor time, which does not depend on the load of the machine; a child that waits
        forever is also killed, after a longer time.
        """
        ended, status, used = os.wait4(run.process, os.WNOHANG)
        if not ended:
            if time.monotonic() - run.began < 60 + 30 * run.limit:
                return None
            os.killpg(run.process, signal.SIGKILL)
            os.waitpid(run.process, 0)
            return Result("timeout", error="waits forever", seconds=run.limit)
        seconds = round(used.ru_utime + used.ru_stime, 2)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
            return Result("timeout", error=f"not finished within {run.limit:.0f} s of processor time", seconds=seconds)
        text = run.report.read_text()
        if not text:
            return Result("crashed", error=f"the process ended with status {status}", seconds=seconds)
        report = json.loads(text)
        if report["code"] in (0, 5):  # all tests passed, or this stage has no tests for the file
            return Result("survived", seconds=seconds)
        if report["test"]:
            return Result("killed", report["test"], report["error"], seconds)
        log = run.report.with_suffix(".log").read_text()[-2000:]
        raise SystemExit(f"pytest ended with {report['code']} {report['error']}:\n{log}")

    def wait(self, run: Running) -> Result:
        while (result := self.finish(run)) is None:
            time.sleep(0.02)
        return result
