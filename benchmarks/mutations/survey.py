"""The order in which mutants run through the stages of tests."""

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
    """Run all mutants, ``workers`` at a time: first the file's own tests, then its neighbours', then the rest.

    Mutants that are listed as equivalent run the file's own tests only.
    """
    limits: dict[int, float] = {}
    waiting, active = [(mutation, 0) for mutation in reversed(mutations)], []
    try:
        while waiting or active:
            while waiting and len(active) < workers:
                mutation, stage = waiting.pop()
                if stage not in limits:  # time the tests of all files without any change
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
