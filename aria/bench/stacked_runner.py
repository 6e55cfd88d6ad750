"""Runs of a task in memory: all arms of a few seeds are trained as one stacked model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from aria import checks, registry
from aria.bench import device, lookahead, metrics, records, sources
from aria.bench.arms import LOOKAHEAD, Arm
from aria.bench.exam import Exam, Scores
from aria.bench.experiment import Experiment
from aria.bench.records import Record
from aria.bench.runner import Cell, Runner
from aria.bench.stacked import Recipe, Stacked
from aria.checks import InvalidSetting
from aria.progress import Bar
from aria.tasks import Task, World
from aria.threads import one_thread

TOGETHER = 5
"""Number of seeds that are trained as one model."""
REGIONS = "concept"
"""The column of the pool whose values are the regions of the standard arms."""
RATE = "learning_rate"
"""A setting of the optimiser that can be set by itself."""


class StackedRunner(Runner):
    """Trains the arms of up to ``together`` seeds at once."""

    threads = 1

    def __init__(self, experiment: Experiment, together: int = TOGETHER) -> None:
        super().__init__(experiment)
        assert isinstance(experiment.task, Task)
        self.task, self.together = experiment.task, together
        known = [RATE, *(field.name for field in fields(Recipe) if field.name != "steps")]
        for name in experiment.values:
            if name not in known:
                there = f"in memory there are: {', '.join(known)}"
                raise InvalidSetting(name, "unknown", f"unknown setting {name!r}{registry.hint(name, known)}; {there}")
        steps = self.task.steps if experiment.steps is None else experiment.steps
        least = max(experiment.exams, lookahead.TURNS) if experiment.lookahead else experiment.exams
        checks.whole("steps", steps, least=least)
        values = dict(experiment.values)
        if RATE in values:
            values["optimiser"] = replace(values.get("optimiser", Recipe.optimiser), learning_rate=values.pop(RATE))
        self._recipe = replace(Recipe(), steps=steps, **values)

    @property
    def steps(self) -> int:
        return self._recipe.steps

    def recipe(self) -> dict[str, Any]:
        return asdict(self._recipe)

    def name(self, arm: Arm, seed: int) -> str:
        own = self.experiment
        determined = [registry.spec(self.task), asdict(arm), seed, asdict(own.setting), self.recipe(), own.exams]
        return records.digest([*determined, *sources.of_task(self.task), *sources.of_arm(arm)])

    def lookahead_name(self, seed: int) -> str:
        """The name of one seed's lookahead: a hash of the names of all its candidates."""
        candidates = [self.name(arm, seed) for arm in self.experiment.arms]
        return records.digest([LOOKAHEAD, lookahead.TURNS, *candidates])

    def cells(self) -> list[Cell]:
        cells = super().cells()
        if not self.experiment.lookahead:
            return cells
        cells += [Cell(LOOKAHEAD, seed, self.lookahead_name(seed)) for seed in self.experiment.seeds]
        place = {seed: number for number, seed in enumerate(self.experiment.seeds)}
        return sorted(cells, key=lambda cell: place[cell.seed])  # stable: a seed's arms, then its lookahead

    def compute(self, folder: Path, cells: Sequence[Cell], jobs: int, bar: Bar) -> None:
        missing: dict[int, list[Arm]] = defaultdict(list)
        ahead: list[int] = []
        arms = {arm.name: arm for arm in self.experiment.arms}
        for cell in cells:
            if cell.arm == LOOKAHEAD:
                ahead.append(cell.seed)
            else:
                missing[cell.seed].append(arms[cell.arm])
        total, done = (len(missing) + len(ahead)) * self.steps, 0
        runs = [(seeds, self._train(folder, seeds, missing[seeds[0]])) for seeds in _same_arms(missing, self.together)]
        runs += [(seeds, self._look_ahead(folder, seeds)) for seeds in _groups(ahead, self.together)]
        with one_thread(), bar("steps") as progress:
            for seeds, steps in runs:
                for _ in steps:
                    done += len(seeds)
                    progress(done, total)

    def _train(self, folder: Path, seeds: Sequence[int], arms: Sequence[Arm]) -> Iterator[None]:
        """Train and evaluate the same arms on some seeds, one step at every turn of the iterator."""
        worlds, exams, stacked = self._set_up(seeds, arms)

        def evaluate(step: int) -> Iterator[Record]:
            for place, seed in enumerate(seeds):
                scores = exams[seed].mark(stacked, slice(place * len(arms), (place + 1) * len(arms)))
                yield from _rows(scores, worlds[seed], [arm.name for arm in arms], seed, step)

        rows: list[Record] = []
        yield from self._steps(stacked.step, evaluate, rows)
        for seed in seeds:
            for arm in arms:
                own = [row for row in rows if (row["arm"], row["seed"]) == (arm.name, seed)]
                records.write(records.file(folder, self.name(arm, seed)), own)

    def _look_ahead(self, folder: Path, seeds: Sequence[int]) -> Iterator[None]:
        """Greedy lookahead over all arms on some seeds, one step at every turn of the iterator."""
        arms = self.experiment.arms
        worlds, exams, stacked = self._set_up(seeds, arms)
        greedy = lookahead.Lookahead(stacked, exams, len(arms), self.steps)

        def evaluate(step: int) -> Iterator[Record]:
            for seed, scores in greedy.marks():
                yield from _rows(scores, worlds[seed], [LOOKAHEAD], seed, step)

        rows: list[Record] = []
        yield from self._steps(greedy.step, evaluate, rows)
        for seed in seeds:
            own = [row for row in rows if row["seed"] == seed]
            records.write(records.file(folder, self.lookahead_name(seed)), own)

    def _steps(
        self, step: Callable[[], None], evaluate: Callable[[int], Iterator[Record]], rows: list[Record]
    ) -> Iterator[None]:
        """All training steps; ``rows`` collects what the evaluations on the way measure."""
        exams = self.experiment.exams
        evaluations = {round(self.steps * (turn + 1) / exams) for turn in range(exams)}
        for count in range(1, self.steps + 1):
            step()
            if count in evaluations:
                rows += evaluate(count)
            yield

    def _set_up(self, seeds: Sequence[int], arms: Sequence[Arm]) -> tuple[dict[int, World], dict[int, Exam], Stacked]:
        where = device.chosen(self.experiment.device)
        worlds = {seed: self.task.world(seed).to(where) for seed in seeds}
        exams = {seed: Exam(worlds[seed], seed) for seed in seeds}
        return worlds, exams, Stacked(self.task, worlds, arms, self.experiment.setting, self._recipe)


def _rows(scores: Scores, world: World, arms: Sequence[str], seed: int, step: int) -> Iterator[Record]:
    for place, arm in enumerate(arms):
        common = {"arm": arm, "seed": seed, "step": step}
        for metric in ("gap", "x0"):
            for group, share in world.groups.items():
                value = float((scores[metric][place].double() * share).sum())
                yield {**common, "metric": metric, "group": group, "value": value}
        yield {**common, "metric": "own", "group": "images", "value": float(scores["own"][place])}
        if (labels := world.pool.columns.get(REGIONS)) is not None:
            value = metrics.spread(scores["gap"][place], [str(label) for label in labels])
            yield {**common, "metric": "spread", "group": "regions", "value": value}


def _same_arms(missing: dict[int, list[Arm]], together: int) -> Iterator[list[int]]:
    """Seeds that lack the same arms, up to ``together`` at a time."""
    by_arms: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for seed, arms in missing.items():
        by_arms[tuple(arm.name for arm in arms)].append(seed)
    for seeds in by_arms.values():
        yield from _groups(seeds, together)


def _groups(seeds: list[int], size: int) -> Iterator[list[int]]:
    for first in range(0, len(seeds), size):
        yield seeds[first : first + size]
