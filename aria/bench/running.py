"""Running an experiment. Everything it measures is kept in a folder, so a killed experiment can be continued."""

from __future__ import annotations

from pathlib import Path

from aria import checks
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


def run_experiment(experiment: Experiment, folder: Path, *, jobs: int = 1, bar: Bar = silent) -> list[Record]:
    """The records of all runs; only those that ``folder`` lacks are computed.

    Args:
        jobs: number of processes at a time, for a task on disk.
        bar: opens a progress bar.
    """
    checks.whole("jobs", jobs, least=1)
    return runner_of(experiment).run(folder, jobs=jobs, bar=bar)
