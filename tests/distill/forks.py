"""Processes that run ``aria`` from the beginning, forked off one that has imported everything, which takes the longest.

As a script this is that one: it reads a JSON object a line and answers with one.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    code: int
    stdout: str
    stderr: str


class Forks:
    """Starts ``aria`` with arguments, waits for it, or both."""

    def __init__(self, folder: Path, warm: Path) -> None:
        self.folder, self._said = folder, {}
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(warm)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )

    def start(self, *arguments: Any, env: Mapping[str, str] | None = None, module: bool = False) -> int:
        """As the command ``aria``, or as ``python -m aria.cli``."""
        said = self.folder / f"said-{len(self._said)}"
        pid = self._ask(start=list(map(str, arguments)), said=str(said), env=dict(env or {}), module=module)
        self._said[pid] = said
        return pid

    def wait(self, pid: int) -> Ended:
        code = self._ask(wait=pid)
        said = self._said[pid]
        return Ended(code, said.with_suffix(".out").read_text(), said.with_suffix(".err").read_text())

    def run(self, *arguments: Any) -> Ended:
        return self.wait(self.start(*arguments))

    def done(self, *arguments: Any) -> Ended:
        """Run, and be sure that it went well."""
        ended = self.run(*arguments)
        assert ended.code == 0, ended.stderr[-3000:]
        return ended

    def _ask(self, **question: Any) -> int:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        return int(json.loads(self._server.stdout.readline()))

    def close(self) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    """Until ``condition()`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def serve(warm: str) -> None:
    import peft  # noqa: F401 - imported here so that no child has to
    import sklearn.cluster  # noqa: F401
    import torch
    from diffusers import StableDiffusionXLPipeline  # noqa: F401
    from transformers import CLIPTextModelWithProjection  # noqa: F401

    import aria.cli.commands.distill
    import aria.distill.runs.run  # noqa: F401
    from aria.cli import main
    from aria.distill.models.pipelines import open_pipeline

    torch.set_num_threads(1)
    quiet = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    open_pipeline(warm)
    os.dup2(quiet, 2)
    for line in sys.stdin:
        told = json.loads(line)
        if "wait" in told:
            _, status = os.waitpid(told["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for stream, ending in ((1, ".out"), (2, ".err")):
            os.dup2(os.open(told["said"] + ending, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.environ.update(told["env"])
        code = 1
        try:
            if told["module"]:
                sys.argv = ["aria", *told["start"]]
                runpy.run_module("aria.cli", run_name="__main__")
            main(told["start"])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
