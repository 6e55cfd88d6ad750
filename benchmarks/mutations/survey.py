"""The order of the runs: which tests a mutant meets first, and when it has survived."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

from benchmarks.mutations.changes import Mutation
from benchmarks.mutations.equivalents import reason
from benchmarks.mutations.laboratory import Laboratory
from benchmarks.mutations.record import Result


def survey(laboratory: Laboratory, mutations: list[Mutation], workers: int) -> Iterator[tuple[Mutation, Result]]:
    """Run all mutants, ``workers`` at a time: first the tests nearest to the file, its neighbours', then the rest.

    What is listed as equivalent meets the nearest tests only.
    """
    limits: dict[int, float] = {}
    waiting, active = [(mutation, 0) for mutation in reversed(mutations)], []
    try:
        while waiting or active:
            while waiting and len(active) < workers:
                mutation, stage = waiting.pop()
                if stage not in limits:  # without any change, the tests of all files together
                    tests = [test for m in mutations for test in laboratory.arguments(m.file, stage)]
                    unchanged = laboratory.start(mutation, stage, [*dict.fromkeys(tests)], 3600, changed=False)
                    clean = laboratory.wait(unchanged)
                    if clean.status != "survived":
                        raise SystemExit(f"tests fail without any change: {clean.test} {clean.error}")
                    limits[stage] = laboratory.patience + 4 * clean.seconds
                tests = laboratory.arguments(mutation.file, stage)
                active.append(laboratory.start(mutation, stage, tests, limits[stage]))
            time.sleep(0.01)
            for run in list(active):
                result = laboratory.finish(run)
                if result is None:
                    continue
                active.remove(run)
                listed = reason(run.mutation)
                last = 0 if listed else laboratory.stages - 1
                if result.status == "survived" and run.stage < last:
                    waiting.append((run.mutation, run.stage + 1))
                    continue
                if result.status == "survived" and listed:
                    result = Result("equivalent", error=listed, seconds=result.seconds)
                yield run.mutation, result
    finally:
        for run in active:
            with contextlib.suppress(ProcessLookupError):  # it may have ended
                os.killpg(run.process, signal.SIGKILL)
