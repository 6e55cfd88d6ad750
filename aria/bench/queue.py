"""A comparison on disk: arms × seeds, each a run of the engine in a process of its own, some at a time.

The queue is a folder: what is finished there is not done again, and what was begun goes on from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aria import checks, files, registry
from aria.bench import device
from aria.bench.arms import Arm, Setting
from aria.bench.cell import STOPPED, Cell, Exam
from aria.bench.compare import Record
from aria.distill.settings.config import setting_names
from aria.progress import Bar, silent
from aria.tasks.on_disk import OnDisk


class CellFailed(RuntimeError):
    """A run ended with an error; the others were asked to stop, and all can go on."""


@dataclass(frozen=True)
class Queue:
    """What is compared: runs of ``arms`` × ``seeds`` that differ in nothing else."""

    task: OnDisk
    arms: Sequence[Arm]
    seeds: Sequence[int]
    setting: Setting
    values: Mapping[str, Any] = field(default_factory=dict)
    """Other settings of the engine than the task's."""
    exams: int = 8
    """How often the students are examined on the way; that often they are also saved."""
    device: str | None = None
    """Where models compute; unless told, on CUDA where there is one. It is part of a run's name: the engine draws its
    random numbers there, so runs of one comparison are made on one kind of device."""

    def __post_init__(self) -> None:
        checks.whole("exams", self.exams, least=1)
        if decided := sorted(setting_names(by_benchmark=True) & {name.split(".")[-1] for name in self.values}):
            raise ValueError(f"{decided[0]} is not to be set: the task, its arms and seeds decide it")
        if any(arm.allocator == "oracle" for arm in self.arms):
            raise ValueError("the oracle needs exact discrepancies, which no task on disk has: leave that arm out")
        names = [arm.name for arm in self.arms]
        if double := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two arms are called {double[0]!r}")

    def settings(self, arm: Arm, seed: int, place: Path) -> dict[str, Any]:
        """The engine's settings of one run, but for where it writes to."""
        from aria.distill.settings.config import Config

        told = self.task.settings(place) | {name.split(".")[-1]: value for name, value in self.values.items()}
        steps = Config().with_values(told).training.max_train_steps
        if arm.by_condition:
            told["prompts"] = str(place / "even.jsonl")
        return {
            **told,
            "allocator": arm.allocator,
            "tracker": arm.tracker,
            "partitioner": self.task.regions() if arm.partitioner == Arm.partitioner else arm.partitioner,
            "floor": arm.floor,
            "replacement": arm.replacement or self.setting.replacement,
            "weighting": arm.weighting or self.setting.weighting,
            "on_policy": arm.on_policy,
            "seed": seed,
            "checkpointing_steps": -(-steps // self.exams),
            "checkpoints_total_limit": None,
        }

    def cell(self, arm: Arm, seed: int) -> str:
        """The name of one run: a digest of all that determines it."""
        places = setting_names(place="input") | setting_names(place="run")
        how = {name: value for name, value in self.settings(arm, seed, Path()).items() if name not in places}
        return _digest([self.task.identity(), asdict(arm), how, device.chosen(self.device)])

    def run(self, folder: Path, *, jobs: int = 1, bar: Bar = silent) -> list[Record]:
        """The records of all runs, ``jobs`` of them at a time; those in ``folder`` are not computed again."""
        checks.whole("jobs", jobs, least=1)
        folder.mkdir(parents=True, exist_ok=True)
        runs = [(arm, seed) for seed in self.seeds for arm in self.arms]
        todo = [(arm, seed) for arm, seed in runs if not self._result(folder, arm, seed).is_file()]
        if todo:
            place = folder / "tasks" / _digest([self.task.identity()])
            self._prepare(folder, place, todo, bar)
            cells = [self._laid(folder, place, arm, seed) for arm, seed in todo]
            with bar("runs") as progress:
                _work(cells, jobs, lambda done: progress(done, len(cells)))
        results = [self._result(folder, arm, seed) for arm, seed in runs]
        return [row for path in results for row in json.loads(path.read_text(encoding="utf-8"))]

    def teacher(self, folder: Path) -> list[Record]:
        """The task's metrics of the teacher itself, once a run is done."""
        place = folder / "tasks" / _digest([self.task.identity()])
        answers = self._answers(place)
        settings = self.settings(self.arms[0], self.seeds[0], place)
        return Exam(self.task, place, settings, device.chosen(self.device)).teacher(answers)

    def _result(self, folder: Path, arm: Arm, seed: int) -> Path:
        return folder / f"{self.cell(arm, seed)}.json"

    def _answers(self, place: Path) -> Path:
        settings = self.settings(self.arms[0], self.seeds[0], Path())
        how = [settings.get(name) for name in ("num_inference_steps", "guidance_scale", "resolution", "revision")]
        return place / f"answers-{_digest(how)}.safetensors"

    def _cache(self, place: Path, seed: int) -> Path:
        settings = self.settings(self.arms[0], seed, Path())
        names = ("num_images", "num_inference_steps", "guidance_scale", "resolution", "caption_column", "revision")
        return place / f"cache-{seed}-{_digest([settings.get(name) for name in names])}"

    def _prepare(self, folder: Path, place: Path, todo: Sequence[tuple[Arm, int]], bar: Bar) -> None:
        """All that runs have in common, made before the first begins: models, images, encoded prompts, answers."""
        where = device.chosen(self.device)
        self.task.prepare(place, bar, where)
        prompts = Path(self.task.settings(place)["prompts"])
        if any(arm.by_condition for arm, _ in todo):
            column = self.settings(*todo[0], place).get("caption_column")
            _without_weights(prompts, place / "even.jsonl", column)
        for seed in sorted({seed for _, seed in todo}):
            settings = self.settings(self.arms[0], seed, place) | {"prompts": str(prompts)}
            _fill(self._cache(place, seed), settings, bar, where)
        if not self._answers(place).is_file():
            with bar("teacher"):
                self.teacher(folder)

    def _laid(self, folder: Path, place: Path, arm: Arm, seed: int) -> Path:
        """The folder of one run, with what its process must know."""
        cell = folder / "cells" / self.cell(arm, seed)
        Cell(
            task=registry.spec(self.task),
            place=str(place),
            cache=str(self._cache(place, seed)),
            answers=str(self._answers(place)),
            result=str(self._result(folder, arm, seed)),
            arm=arm.name,
            seed=seed,
            device=device.chosen(self.device),
            settings=self.settings(arm, seed, place) | {"output_dir": str(cell / "run")},
        ).write(cell)
        return cell


def _digest(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:24]


def _fill(folder: Path, settings: Mapping[str, Any], bar: Bar, where: str) -> None:
    """The cache that a run with these settings would make."""
    from aria.distill.data import cache
    from aria.distill.models.pipelines import open_pipeline
    from aria.distill.settings.config import Config

    config = Config().with_values(settings)
    data, models = config.data, config.models
    path = models.pretrained_model_name_or_path
    pipeline = open_pipeline(path, revision=models.revision, variant=models.variant)
    cache.fill(
        folder,
        pipeline.to(where),
        prompts=Path(data.prompts),
        bar=bar,
        column=data.caption_column,
        num_images=0 if data.train_data_dir else data.num_images,
        steps=data.num_inference_steps,
        guidance=data.guidance_scale,
        data=Path(data.train_data_dir) if data.train_data_dir else None,
        resolution=data.resolution,
        seed=config.training.seed,
    )


def _without_weights(prompts: Path, target: Path, column: str | None) -> None:
    """The same prompts, each of which counts once."""
    from aria.distill.data.prompt_files import read_prompts

    given = read_prompts(prompts, column=column)
    names = list(given.columns)
    rows = zip(given.texts, *given.columns.values(), strict=True)
    told = [{**dict(zip(names, values, strict=True)), column or "text": text} for text, *values in rows]
    files.write_text(target, "".join(json.dumps(row) + "\n" for row in told))


def _work(cells: Sequence[Path], jobs: int, progress: Callable[[int], None]) -> None:
    """A process for each cell, ``jobs`` at a time. If one fails, or this is interrupted, the others save and stop."""
    waiting, running, done = list(cells), dict[subprocess.Popen[bytes], Path](), 0
    progress(done)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                cell = waiting.pop(0)
                running[_started(cell, jobs)] = cell
            for process in [process for process in running if process.poll() is not None]:
                cell = running.pop(process)
                if process.returncode:
                    raise CellFailed(_why(cell, process.returncode))
                done += 1
            progress(done)
            time.sleep(0.05)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _started(cell: Path, jobs: int) -> subprocess.Popen[bytes]:
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    own = device.environment(Cell.read(cell).device)
    with (cell / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "aria.bench.cell", str(cell), "--with-parent"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"OMP_NUM_THREADS": threads, "HF_HUB_DISABLE_PROGRESS_BARS": "1", **os.environ, **own},
        )


def _why(cell: Path, code: int) -> str:
    if code == STOPPED:
        return f"{cell} was asked to stop; run the comparison again to go on"
    told = Cell.read(cell)
    lines = (cell / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"arm {told.arm} on seed {told.seed} ended with {code}: {lines[-1] if lines else 'no word'} ({cell}/log.txt)"
