"""A comparison: arms × seeds on one task, cell by cell, so that a killed one goes on."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import CodeType
from typing import Any

from aria import checks, files, registry
from aria.bench import device, lookahead
from aria.bench.arms import LOOKAHEAD, Arm, Setting
from aria.bench.exam import Exam, Scores
from aria.bench.stacked import Recipe, Stacked
from aria.interfaces import Allocator, Partitioner, Tracker
from aria.tasks import Task, World
from aria.threads import one_thread

Record = dict[str, Any]
"""One number: arm, seed, step, metric, group, value."""


@dataclass(frozen=True)
class Comparison:
    """What is compared, on what, and for how long."""

    task: Task
    arms: Sequence[Arm]
    seeds: Sequence[int]
    setting: Setting
    recipe: Recipe
    exams: int = 8
    """How often the students are examined on the way, for the curves."""
    lookahead: bool = False
    """Whether greedy lookahead over all arms is run as well."""
    device: str | None = None
    """Where models compute; unless told, on CUDA where there is one. It changes no random number, so cells go by the
    same name on every device."""

    def __post_init__(self) -> None:
        for what, many in (("arms", [arm.name for arm in self.arms]), ("seeds", list(self.seeds))):
            if not many:
                raise ValueError(f"there is nothing to compare: no {what}")
            if twice := [str(name) for name, count in Counter(many).items() if count > 1]:
                raise ValueError(f"{what} need names of their own, got {', '.join(twice)} more than once")
        checks.whole("exams", self.exams, least=1)
        least = max(self.exams, lookahead.TURNS) if self.lookahead else self.exams
        checks.whole("steps", self.recipe.steps, least=least)

    def cell(self, arm: Arm, seed: int) -> str:
        """The name of one arm's run on one seed: a digest of all that determines it, code of the user's included."""
        told = [registry.spec(self.task), asdict(arm), seed, asdict(self.setting), asdict(self.recipe), self.exams]
        told += [source for part in (self.task, *_parts(arm)) for source in _foreign(part)]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:24]

    def lookahead_cell(self, seed: int) -> str:
        """The name of one seed's lookahead: a digest of all its candidates."""
        told = [LOOKAHEAD, lookahead.TURNS, *(self.cell(arm, seed) for arm in self.arms)]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]

    def run(
        self, folder: Path, *, together: int = 5, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> list[Record]:
        """The records of all cells; those in ``folder`` are not computed again."""
        with one_thread():
            return self._run(folder, together, progress)

    def _run(self, folder: Path, together: int, progress: Callable[[int, int], None]) -> list[Record]:
        folder.mkdir(parents=True, exist_ok=True)
        todo = {seed: missing for seed in self.seeds if (missing := self._missing(folder, seed))}
        asked = self.seeds if self.lookahead else ()
        ahead = [seed for seed in asked if not _file(folder, self.lookahead_cell(seed)).is_file()]
        total, done = (len(todo) + len(ahead)) * self.recipe.steps, 0
        trained = [(batch, self._train(folder, batch, todo[batch[0]])) for batch in _alike(todo, together)]
        trained += [(batch, self._look_ahead(folder, batch)) for batch in _batches(ahead, together)]
        for batch, steps in trained:
            for _ in steps:
                done += len(batch)
                progress(done, total)
        return [row for seed in self.seeds for cell in self._cells(seed) for row in _read(folder, cell)]

    def _cells(self, seed: int) -> list[str]:
        cells = [self.cell(arm, seed) for arm in self.arms]
        return [*cells, self.lookahead_cell(seed)] if self.lookahead else cells

    def _missing(self, folder: Path, seed: int) -> list[Arm]:
        return [arm for arm in self.arms if not _file(folder, self.cell(arm, seed)).is_file()]

    def _train(self, folder: Path, seeds: Sequence[int], arms: Sequence[Arm]) -> Iterator[None]:
        """Some seeds' runs of the same arms as one stacked model; one step a turn."""
        worlds, exams, stacked = self._set_up(seeds, arms)
        records: dict[tuple[int, str], list[Record]] = {(seed, arm.name): [] for seed in seeds for arm in arms}
        marks = self._marks()
        for step in range(1, self.recipe.steps + 1):
            stacked.step()
            if step in marks:
                for place, seed in enumerate(seeds):
                    runs = slice(place * len(arms), (place + 1) * len(arms))
                    scores = exams[seed].mark(stacked, runs)
                    for row in _rows(scores, worlds[seed], [arm.name for arm in arms], seed, step):
                        records[seed, row["arm"]].append(row)
            yield
        for (seed, name), rows in records.items():
            arm = next(arm for arm in arms if arm.name == name)
            files.write_text(_file(folder, self.cell(arm, seed)), json.dumps(rows))

    def _look_ahead(self, folder: Path, seeds: Sequence[int]) -> Iterator[None]:
        """Greedy lookahead over all arms on some seeds; one step a turn."""
        worlds, exams, stacked = self._set_up(seeds, self.arms)
        greedy = lookahead.Lookahead(stacked, exams, len(self.arms), self.recipe.steps)
        records: dict[int, list[Record]] = {seed: [] for seed in seeds}
        marks = self._marks()
        for step in range(1, self.recipe.steps + 1):
            greedy.step()
            if step in marks:
                for seed, scores in greedy.marks():
                    records[seed] += _rows(scores, worlds[seed], [LOOKAHEAD], seed, step)
            yield
        for seed, rows in records.items():
            files.write_text(_file(folder, self.lookahead_cell(seed)), json.dumps(rows))

    def _set_up(self, seeds: Sequence[int], arms: Sequence[Arm]) -> tuple[dict[int, World], dict[int, Exam], Stacked]:
        worlds = {seed: self.task.world(seed).to(device.chosen(self.device)) for seed in seeds}
        exams = {seed: Exam(worlds[seed], seed) for seed in seeds}
        return worlds, exams, Stacked(self.task, worlds, arms, self.setting, self.recipe)

    def _marks(self) -> set[int]:
        """The steps after which students are examined."""
        return {round(self.recipe.steps * (turn + 1) / self.exams) for turn in range(self.exams)}


def _parts(arm: Arm) -> Iterator[object]:
    if arm.allocator != "oracle":
        yield registry.allocator(arm.allocator)
    yield registry.tracker(arm.tracker)
    yield registry.partitioner(arm.partitioner)


def _source(cls: type) -> str:
    """The text of the module of a class; what was typed into an interpreter has none, and its methods speak for it."""
    module = sys.modules[cls.__module__]
    if getattr(module, "__file__", None):
        return inspect.getsource(module)
    methods = sorted((name, method) for name, method in vars(cls).items() if inspect.isfunction(method))
    return repr([(name, _body(method.__code__)) for name, method in methods])


def _body(code: CodeType) -> list[object]:
    """What a function does, spelled alike in every process."""
    inner = [_body(value) if isinstance(value, CodeType) else repr(value) for value in code.co_consts]
    return [code.co_code.hex(), code.co_names, inner]


def _foreign(part: object) -> Iterator[str]:
    """The source of the modules outside this package that a part and those inside it come from."""
    own = not type(part).__module__.startswith("aria.")
    if isinstance(part, Allocator | Tracker | Partitioner | Task) and own:
        yield _source(type(part))
    if is_dataclass(part):
        for field in fields(part):
            yield from _foreign(getattr(part, field.name))


def _rows(scores: Scores, world: World, arms: Sequence[str], seed: int, step: int) -> Iterator[Record]:
    for place, arm in enumerate(arms):
        common = {"arm": arm, "seed": seed, "step": step}
        for metric in ("gap", "x0"):
            for group, share in world.groups.items():
                value = float((scores[metric][place].double() * share).sum())
                yield {**common, "metric": metric, "group": group, "value": value}
        yield {**common, "metric": "own", "group": "images", "value": float(scores["own"][place])}


def _alike(todo: dict[int, list[Arm]], together: int) -> Iterator[list[int]]:
    """Seeds that lack the same arms, up to ``together`` at a time."""
    by_arms: dict[tuple[str, ...], list[int]] = {}
    for seed, missing in todo.items():
        by_arms.setdefault(tuple(arm.name for arm in missing), []).append(seed)
    for seeds in by_arms.values():
        yield from _batches(seeds, together)


def _batches(seeds: Sequence[int], together: int) -> Iterator[list[int]]:
    for first in range(0, len(seeds), together):
        yield list(seeds[first : first + together])


def _file(folder: Path, cell: str) -> Path:
    return folder / f"{cell}.json"


def _read(folder: Path, cell: str) -> list[Record]:
    rows: list[Record] = json.loads(_file(folder, cell).read_text(encoding="utf-8"))
    return rows
