"""Running an experiment. Everything it measures is kept in a folder, so a killed experiment can be continued."""

from __future__ import annotations

import os
from pathlib import Path

from aria import checks
from aria.bench import device
from aria.bench.experiment import Experiment
from aria.bench.process_runner import ProcessRunner
from aria.bench.records import Record
from aria.bench.runner import Runner
from aria.bench.stacked_runner import StackedRunner
from aria.progress import Bar, silent
from aria.tasks.on_disk import OnDisk


def runner_of(experiment: Experiment) -> Runner:
    """How the runs are made: in memory all arms of a few seeds as one model, on disk a process for each run.

    Settings that the task's kind does not take are refused here.
    """
    if isinstance(experiment.task, OnDisk):
        return ProcessRunner(experiment, experiment.task)
    return StackedRunner(experiment)


def run_experiment(
    experiment: Experiment, folder: Path, *, jobs: int | None = None, bar: Bar = silent
) -> list[Record]:
    """The records of all runs; only those that ``folder`` lacks are computed.

    Args:
        jobs: number of processes at a time, for a task on disk; by default one for each core, or one on a GPU.
        bar: opens a progress bar.
    """
    if jobs is None:
        jobs = 1 if device.chosen(experiment.device) == "cuda" else os.cpu_count() or 1
    checks.whole("jobs", jobs, least=1)
    return runner_of(experiment).run(folder, jobs=jobs, bar=bar)
