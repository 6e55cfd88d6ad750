"""A matrix: the same arms on many tasks, each beside the best static mix that a search on other seeds finds for it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from aria import checks, registry
from aria.bench import device, records
from aria.bench.arms import STANDARD, Arm
from aria.bench.experiment import Experiment
from aria.bench.records import Record
from aria.bench.result import machine
from aria.bench.running import run_experiment, runner_of
from aria.bench.static_search import GRID, search
from aria.checks import InvalidSetting
from aria.progress import Bar, silent
from aria.tasks import presets
from aria.tasks.base import AnyTask
from aria.tasks.emoji.kinds import KINDS
from aria.tasks.on_disk import OnDisk

STATIC = "static"
"""Name of the arm that the search finds."""
EXAMS = 3


ARMS = tuple(arm for arm in STANDARD if arm.name in ("rc", "aria", "aria-static"))
"""What is compared with the best static mix."""
BASELINE = next(arm for arm in ARMS if arm.name == "rc")
MATRICES = {
    "emoji": {
        f"{teacher}, {student}, {images}": f"emoji(teacher={teacher!r}, student={student!r}, images={images})"
        for teacher in KINDS
        for student in ("mild", "strong", "narrow")
        for images in (1500, 150, 0)
    },
}
MATRICES["emoji-core"] = {
    label: MATRICES["emoji"][label]
    for teacher in KINDS
    for label in (f"{teacher}, strong, 1500", f"{teacher}, strong, 0", f"{teacher}, narrow, 150")
}
"""By name, the tasks of a matrix by label: teacher, student, and number of the student's pictures."""


@dataclass(frozen=True)
class Matrix:
    """``arms`` and the best static mix on each of ``tasks``."""

    tasks: Mapping[str, AnyTask]
    """The tasks by label."""
    seeds: Sequence[int]
    """Seeds of the comparison."""
    _: KW_ONLY
    tuning: Sequence[int] = (0, 1)
    """Seeds of the search; none is a seed of the comparison."""
    arms: Sequence[Arm] = ARMS
    grid: Sequence[Arm] = GRID
    steps: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    exams: int = EXAMS
    device: str | None = None

    def __post_init__(self) -> None:
        if not self.tasks:
            raise InvalidSetting("matrix", "missing", "the matrix has no task")
        checks.whole("number of tuning seeds", len(self.tuning), least=1)
        if both := sorted(set(self.tuning) & set(self.seeds)):
            message = f"a mix is not judged on the seeds it was chosen on: {both[0]} is in both"
            raise InvalidSetting("seeds", "conflict", message)
        names = [arm.name for arm in self.arms]
        if "rc" not in names:
            raise InvalidSetting("arms", "missing", "the arm rc must be among the arms: changes are relative to it")
        if STATIC in names:
            raise InvalidSetting("arms", "conflict", f"{STATIC} is the name of the mix that is searched for")

    def shared(self) -> dict[str, Any]:
        """What all rows of one folder have in common, as plain values; seeds and arms may be added later."""
        record: dict[str, Any] = json.loads(
            json.dumps(
                {
                    "tuning": list(self.tuning),
                    "grid": [asdict(arm) for arm in self.grid],
                    "steps": self.steps,
                    "values": dict(self.values),
                    "exams": self.exams,
                }
            )
        )
        return record

    def check(self) -> None:
        """Refuse, before any run, what one of the rows could not do."""
        for task in self.tasks.values():
            runner_of(self.experiment(task, [*self.arms, *self.grid], self.seeds))
            if isinstance(task, OnDisk):
                task.check()

    def experiment(
        self, task: AnyTask, arms: Sequence[Arm], seeds: Sequence[int], exams: int | None = None
    ) -> Experiment:
        """Some arms and seeds on one of the tasks."""
        shared: dict[str, Any] = {"steps": self.steps, "values": self.values, "exams": exams or self.exams}
        return Experiment(task, arms, seeds, **shared, device=self.device)


def tasks(text: str, only: str = "*") -> dict[str, AnyTask]:
    """The tasks of a matrix by its name or from a file of JSON, ``{"label": "spec", …}``; those with labels like
    ``only``.

    >>> list(tasks("emoji-core", "unet-v*"))
    ['unet-v, strong, 1500', 'unet-v, strong, 0', 'unet-v, narrow, 150']
    """
    known = MATRICES.get(text)
    if known is None:
        path = Path(text)
        if not path.is_file():
            hint = checks.hint(text, MATRICES)
            message = f"there is no matrix {text!r}{hint}: it is {', '.join(MATRICES)} or a file of JSON"
            raise InvalidSetting("matrix", "unknown", message)
        known = _read(path)
    chosen = {label: spec for label, spec in known.items() if fnmatch(label, only)}
    if not chosen:
        raise InvalidSetting("rows", "unknown", f"no row is like {only!r}; there are: {'; '.join(known)}")
    return {label: presets.task(spec) for label, spec in chosen.items()}


def run_row(
    matrix: Matrix, label: str, folder: Path, *, jobs: int | None = None, bar: Bar = silent
) -> dict[str, Any]:
    """Search the static mix of one task and compare; cells that ``folder`` has are not computed again."""
    task = matrix.tasks[label]

    def run(arms: Sequence[Arm], seeds: Sequence[int], exams: int) -> list[Record]:
        return run_experiment(matrix.experiment(task, arms, seeds, exams), folder, jobs=jobs, bar=bar)

    chosen, scores = search(matrix.grid, matrix.tuning, partial(run, exams=1))
    found = _compared(matrix.arms, replace(chosen, name=STATIC), partial(run, seeds=matrix.seeds, exams=matrix.exams))
    known = {name: score for name, score in scores.items() if math.isfinite(score)}
    return {
        "label": label,
        "task": registry.spec(task),
        "seeds": list(matrix.seeds),
        "static": asdict(chosen),
        "search": known,
        "worth": _worth(matrix.experiment(task, [BASELINE], matrix.seeds), folder),
        "machine": machine(device.chosen(matrix.device)),
        "records": found,
    }


def _compared(arms: Sequence[Arm], static: Arm, run: Callable[[Sequence[Arm]], list[Record]]) -> list[Record]:
    """The records of the arms and of the static mix. If the mix is one of the arms under another name, its runs would
    be the same to the last bit: the arm's records are its own."""
    twin = next((arm.name for arm in arms if replace(arm, name=static.name) == static), None)
    if twin is None:
        return run([*arms, static])
    found = run(arms)
    return [*found, *({**record, "arm": static.name} for record in found if record["arm"] == twin)]


def _worth(experiment: Experiment, folder: Path) -> dict[str, float] | None:
    """What allocating over regions can gain on random conditioning, in % of the loss, as the logs of its runs say: the
    median over seeds; None for tasks whose runs keep no log."""
    cells = [records.file(folder, cell.name) for cell in runner_of(experiment).cells()]
    known = [found for found in map(records.worth, cells) if found is not None and "gain" in found]
    if not known:
        return None
    ends = {end: 100 * median(found["gain"][end] for found in known) for end in ("value", "low", "high")}
    return ends | {name: median(found[name]["value"] for found in known) for name in ("spread", "exponent")}


def _read(path: Path) -> dict[str, str]:
    from aria import files

    value: Any = files.read_json(path)
    if not isinstance(value, dict) or not all(isinstance(spec, str) for spec in value.values()):
        raise InvalidSetting("matrix", "file", f'{path} must be a JSON object of tasks: {{"label": "spec", …}}')
    return value
