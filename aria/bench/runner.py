"""What the two ways to run an experiment have in common: which cells there are, and that none is computed twice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aria.bench import records
from aria.bench.arms import Arm
from aria.bench.experiment import Experiment
from aria.bench.records import Record
from aria.progress import Bar, silent


class Cell(NamedTuple):
    """One run of an experiment, whose records are kept in a file of their own."""

    arm: str
    seed: int
    name: str
    """A hash of everything that determines the records."""


class Runner(ABC):
    """Trains and evaluates the students of an experiment."""

    threads: int | None = None
    """Number of CPU threads in which PyTorch computes, where the runner sets it."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    @property
    @abstractmethod
    def steps(self) -> int:
        """Number of training steps of every run."""

    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """The training settings that all runs share, for the report."""

    @abstractmethod
    def name(self, arm: Arm, seed: int) -> str:
        """The name of one cell: a hash of everything that determines its records."""

    @abstractmethod
    def compute(self, folder: Path, cells: Sequence[Cell], jobs: int, bar: Bar) -> None:
        """Run ``cells`` and write their records into ``folder``."""

    def cells(self) -> list[Cell]:
        """All cells of the experiment, seed by seed."""
        return [
            Cell(arm.name, seed, self.name(arm, seed)) for seed in self.experiment.seeds for arm in self.experiment.arms
        ]

    def run(self, folder: Path, *, jobs: int = 1, bar: Bar = silent) -> list[Record]:
        """The records of all cells; only those that ``folder`` lacks are computed."""
        folder.mkdir(parents=True, exist_ok=True)
        cells = self.cells()
        if missing := [cell for cell in cells if not records.file(folder, cell.name).is_file()]:
            self.compute(folder, missing, jobs, bar)
        return [row for cell in cells for row in records.read(records.file(folder, cell.name), cell.arm, cell.seed)]
