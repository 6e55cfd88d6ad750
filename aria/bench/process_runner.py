"""Runs of a task on disk: each is a run of the engine in a process of its own, some of them at a time.

A run that was stopped continues from its last checkpoint. Several commands, also on several machines, can work on one
folder: each takes the runs that no other works on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aria import files, registry
from aria.bench import device, records, sources
from aria.bench.arms import Arm
from aria.bench.cell import BUSY, STOPPED, CellSettings, Exam
from aria.bench.experiment import Experiment
from aria.bench.records import Record
from aria.bench.runner import Cell, Runner
from aria.checks import InvalidSetting
from aria.distill.settings.config import Config, setting_names
from aria.progress import Bar
from aria.tasks.on_disk import OnDisk

THREADS = "1"
"""CPU threads of a run, where the environment does not say: results must not depend on how many run at a time."""


class CellFailed(RuntimeError):
    """A run ended with an error. The others were stopped, and all can be continued."""


class ProcessRunner(Runner):
    """Starts a process for each run."""

    def __init__(self, experiment: Experiment, task: OnDisk) -> None:
        super().__init__(experiment)
        self.task = task
        if experiment.lookahead:
            message = "lookahead is for tasks in memory, whose arms are trained side by side"
            raise InvalidSetting("lookahead", "conflict", message)
        self.values = {name.split(".")[-1]: value for name, value in experiment.values.items()}
        if decided := sorted(setting_names(by_benchmark=True) & self.values.keys()):
            message = f"{decided[0]} cannot be set: the task, its arms and seeds decide it"
            raise InvalidSetting(decided[0], "conflict", message)
        if experiment.steps is not None:
            self.values["max_train_steps"] = experiment.steps
        self._identity = [task.identity(), *sources.of_task(task)]
        self._steps = Config().with_values(task.settings(Path()) | self.values).training.max_train_steps

    @property
    def steps(self) -> int:
        return self._steps

    def recipe(self) -> dict[str, Any]:
        return dict(self.values)

    def settings(self, arm: Arm, seed: int, place: Path) -> dict[str, Any]:
        """The engine's settings of one run, except where it writes."""
        settings = self.task.settings(place) | self.values
        if arm.by_condition:
            settings["prompts"] = str(place / "even.jsonl")
        shared = self.experiment.setting
        return {
            **settings,
            "allocator": arm.allocator,
            "tracker": arm.tracker,
            "partitioner": self.task.regions() if arm.partitioner == Arm.partitioner else arm.partitioner,
            "floor": arm.floor,
            "replacement": arm.replacement or shared.replacement,
            "weighting": arm.weighting or shared.weighting,
            "on_policy": arm.on_policy,
            "seed": seed,
            "checkpointing_steps": -(-self.steps // self.experiment.exams),
            "checkpoints_total_limit": None,
        }

    def name(self, arm: Arm, seed: int) -> str:
        places = setting_names(place="input") | setting_names(place="run")
        settings = {name: value for name, value in self.settings(arm, seed, Path()).items() if name not in places}
        where = device.chosen(self.experiment.device)
        return records.digest([*self._identity, asdict(arm), settings, where, *sources.of_arm(arm)])

    def compute(self, folder: Path, cells: Sequence[Cell], jobs: int, bar: Bar) -> None:
        folder, arms = folder.resolve(), {arm.name: arm for arm in self.experiment.arms}
        place = self._place(folder)
        place.mkdir(parents=True, exist_ok=True)
        with files.lock(place / files.FOLDER_LOCK, wait=True):
            self._prepare(place, [(arms[cell.arm], cell.seed) for cell in cells], bar)
        folders = [self._write_cell(folder, place, cell, arms[cell.arm]) for cell in cells]
        with bar("runs") as progress:
            _work(folders, jobs, lambda done: progress(done, len(cells)))

    def teacher(self, folder: Path) -> list[Record]:
        """The task's metrics of the teacher itself, once a run is done."""
        return self._teacher(self._place(folder))

    def _teacher(self, place: Path) -> list[Record]:
        settings = self.settings(self.experiment.arms[0], self.experiment.seeds[0], place)
        return Exam(self.task, place, settings, device.chosen(self.experiment.device)).teacher(self._outputs(place))

    def _place(self, folder: Path) -> Path:
        """The folder of everything the task prepares."""
        return folder / "tasks" / records.digest(self._identity)

    def _outputs(self, place: Path) -> Path:
        """The file of the teacher's images, which depend on these settings alone."""
        settings = self.settings(self.experiment.arms[0], self.experiment.seeds[0], Path())
        names = ("num_inference_steps", "guidance_scale", "resolution", "num_frames", "revision", "halve_from")
        return place / f"answers-{records.digest([settings.get(name) for name in names])}.safetensors"

    def _cache(self, place: Path, seed: int) -> Path:
        settings = self.settings(self.experiment.arms[0], seed, Path())
        names = (
            "num_images", "num_inference_steps", "guidance_scale", "resolution", "num_frames", "caption_column",
            "revision", "halve_from",
        )  # fmt: skip
        return place / f"cache-{seed}-{records.digest([settings.get(name) for name in names])}"

    def _prepare(self, place: Path, runs: Sequence[tuple[Arm, int]], bar: Bar) -> None:
        """Everything that runs share, made before the first begins: models, images, encoded prompts, the teacher's
        outputs."""
        where = device.chosen(self.experiment.device)
        self.task.prepare(place, bar, where)
        prompts = Path(self.task.settings(place)["prompts"])
        if any(arm.by_condition for arm, _ in runs):
            _without_weights(prompts, place / "even.jsonl", self.settings(*runs[0], place).get("caption_column"))
        for seed in sorted({seed for _, seed in runs}):
            settings = self.settings(self.experiment.arms[0], seed, place) | {"prompts": str(prompts)}
            _fill(self._cache(place, seed), settings, bar, where)
        if not self._outputs(place).is_file():
            with bar("teacher"):
                self._teacher(place)

    def _write_cell(self, folder: Path, place: Path, cell: Cell, arm: Arm) -> Path:
        """The folder of one run, with the settings that its process reads."""
        target = folder / "cells" / cell.name
        CellSettings(
            task=registry.spec(self.task, full_paths=True),
            place=str(place),
            cache=str(self._cache(place, cell.seed)),
            outputs=str(self._outputs(place)),
            result=str(records.file(folder, cell.name)),
            arm=cell.arm,
            seed=cell.seed,
            device=device.chosen(self.experiment.device),
            settings=self.settings(arm, cell.seed, place) | {"output_dir": str(target / "run")},
        ).write(target)
        return target


def _fill(folder: Path, settings: Mapping[str, Any], bar: Bar, where: str) -> None:
    """Fill the cache that a run with these settings would make."""
    from aria.distill.models.pipelines import open_pipeline
    from aria.distill.runs import assembly
    from aria.distill.runs.plan import resolve

    plan = resolve(Config().with_values({**settings, "cache_dir": str(folder)}))
    models = plan.config.models
    pipeline = open_pipeline(
        models.pretrained_model_name_or_path, revision=models.revision, variant=models.variant
    )
    assembly.fill_cache(plan, pipeline.to(where), bar)


def _without_weights(prompts: Path, target: Path, column: str | None) -> None:
    """The same prompts, all equally likely."""
    from aria.distill.data.prompt_files import read_prompts

    given = read_prompts(prompts, column=column)
    names = list(given.columns)
    rows = zip(given.texts, *given.columns.values(), strict=True)
    kept = [{**dict(zip(names, values, strict=True)), column or "text": text} for text, *values in rows]
    files.write_text(target, "".join(json.dumps(row) + "\n" for row in kept))


def _work(cells: Sequence[Path], jobs: int, progress: Callable[[int], None]) -> None:
    """Run a process for each cell, ``jobs`` at a time. If one fails, or on an interrupt, the others save and stop.

    Cells that other commands work on come last: this one waits until their records are there.
    """
    results = {cell: Path(CellSettings.read(cell).result) for cell in cells}
    waiting, running, done = list(cells), dict[subprocess.Popen[bytes], Path](), 0
    progress(done)
    try:
        while waiting or running:
            for found in [cell for cell in waiting if results[cell].is_file()]:
                waiting.remove(found)
                done += 1
            while len(running) < jobs and (free := next(filter(_is_free, waiting), None)) is not None:
                waiting.remove(free)
                running[_started(free)] = free
            for process in [process for process in running if process.poll() is not None]:
                cell = running.pop(process)
                if process.returncode == BUSY:
                    waiting.append(cell)
                elif process.returncode:
                    raise CellFailed(_why(cell, process.returncode))
                else:
                    done += 1
            progress(done)
            time.sleep(0.05 if running else 1.0)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _is_free(cell: Path) -> bool:
    """Whether no other command works on a cell."""
    try:
        files.lock(cell / files.FOLDER_LOCK).close()
    except BlockingIOError:
        return False
    return True


def _started(cell: Path) -> subprocess.Popen[bytes]:
    own = device.environment(CellSettings.read(cell).device)
    with (cell / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "aria.bench.cell", str(cell), "--with-parent"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"OMP_NUM_THREADS": THREADS, "HF_HUB_DISABLE_PROGRESS_BARS": "1", **os.environ, **own},
        )


def _why(cell: Path, code: int) -> str:
    if code == STOPPED:
        return f"{cell} was stopped by a signal; run the same command again to continue"
    settings = CellSettings.read(cell)
    lines = (cell / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1] if lines else "without output"
    return f"arm {settings.arm} on seed {settings.seed} ended with {code}: {last} ({cell}/log.txt)"
