"""One cell of a comparison on disk: one arm's run of the engine on one seed, then its evaluation.

``python -m aria.bench.cell FOLDER`` reads its settings from a file in the folder. It can be started from any
working directory, and continues a killed run from its last checkpoint.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from aria import files, integrity, registry
from aria.bench import records
from aria.bench.records import Record
from aria.checks import InvalidSetting
from aria.tasks.base import AnyTask
from aria.tasks.on_disk import OnDisk, Questions

STOPPED, BUSY = 3, 4
"""Exit codes: of a cell that a signal stopped, which running it again continues; and of one that another process is
working on."""
NOISE_SEED = 1_000_003
"""Seed of the noise from which every student of a task starts."""


@dataclass(frozen=True)
class CellSettings:
    """The settings of one cell, in a file of its folder. Its paths are those of this machine: a folder that machines
    know by different paths has a file for each."""

    task: str
    """The task's spec, which can be loaded from any working directory."""
    place: str
    """Folder of everything that the task prepared."""
    cache: str
    """Folder of encoded prompts and images, which is linked into the run's folder."""
    outputs: str
    """File of the latents that the teacher generates for the evaluation's prompts."""
    result: str
    """File of the records."""
    arm: str
    seed: int
    device: str
    """Where models compute: ``"cpu"`` or ``"cuda"``."""
    settings: dict[str, Any]
    """The engine's settings."""

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        integrity.write(self._file(folder), vars(self))

    @classmethod
    def read(cls, folder: Path) -> CellSettings:
        file = cls._file(folder)
        if not file.is_file():
            raise InvalidSetting("cell", "file", f"{folder} is no cell of a comparison: it has no {file.name}")
        return cls(**integrity.read(file))

    @staticmethod
    def _file(folder: Path) -> Path:
        return folder / f"cell-{records.digest(str(folder.resolve()))[:8]}.json"


def run_cell(folder: Path) -> bool:
    """Train, evaluate and write the records; False if a signal stopped the run. ``BlockingIOError`` if another process
    works on the cell."""
    from aria.distill.runs.run import run
    from aria.distill.settings.config import Config
    from aria.progress import silent

    cell = CellSettings.read(folder)
    with files.lock(folder / files.FOLDER_LOCK):
        if Path(cell.result).is_file():
            return True
        config = Config().with_values(cell.settings)
        output = Path(config.run.output_dir)
        _link(Path(cell.cache), output / "cache")
        distiller = run(config, bar=silent, quiet=True)
        if distiller.step_count < distiller.steps:
            return False
        task = registry.resolve(cell.task, AnyTask)
        assert isinstance(task, OnDisk)
        exam = Exam(task, Path(cell.place), cell.settings, cell.device)
        found = list(exam.records(cell.arm, cell.seed, output, Path(cell.outputs)))
        records.write(Path(cell.result), found, _worth(output))
        _keep_logs(output)
    return True


class Exam:
    """Evaluates students on disk: teacher and students generate images of the same prompts from the same noise, in a
    few sampling steps."""

    def __init__(self, task: OnDisk, place: Path, settings: Mapping[str, Any], device: str) -> None:
        from aria.distill.evaluation.examiner import Examiner
        from aria.distill.models.pipelines import component_of, open_pipeline
        from aria.distill.runs.plan import resolve
        from aria.distill.settings.config import Config

        config = Config().with_values(settings)
        self.plan = resolve(config)
        self.task, self.place = task, place
        self.questions: Questions = task.questions(place)
        models, data = config.models, config.data
        path = models.pretrained_model_name_or_path
        pipeline = open_pipeline(path, revision=models.revision, variant=models.variant).to(device)
        pipeline = self.plan.with_scheduler(pipeline)
        how: dict[str, Any] = {"guidance": data.guidance_scale, "seed": NOISE_SEED}
        how |= {"resolution": data.resolution, "frames": data.num_frames}
        self.examiner = Examiner(pipeline, self.questions.prompts, **how)
        self.component = component_of(pipeline)
        self.every, self.steps = config.run.checkpointing_steps, config.training.max_train_steps

    def outputs(self, path: Path) -> Tensor:
        """(N, …) the teacher's latents, generated once for all students and kept in a file."""
        from safetensors.torch import load_file

        if not path.is_file():
            made = self.examiner.latents(self.examiner.teacher, steps=self.plan.teacher_steps)
            with files.replacing(path) as unfinished:
                files.write_tensors(unfinished, {"latents": made})
        return load_file(path)["latents"]

    def records(self, arm: str, seed: int, output: Path, outputs: Path) -> Iterator[Record]:
        """Every metric of every group at every evaluation of a run. Other checkpoints, which a stopped run leaves, are
        skipped."""
        from aria.distill.models.pipelines import open_model
        from aria.distill.runs import checkpoint

        teacher = self.outputs(outputs)
        for folder in checkpoint.folders(output):
            step = checkpoint.step_of(folder)
            if step % self.every and step != self.steps:
                continue
            averaged = folder / f"{self.component}_ema"
            student = open_model(averaged if averaged.is_dir() else folder / self.component)
            prediction, steps = self.plan.loop.student_prediction, self.plan.student_steps
            made = self.examiner.latents(student.to(self.examiner.noise.device), prediction=prediction, steps=steps)
            yield from self._rows(arm, seed, step, made, teacher)

    def teacher(self, outputs: Path) -> list[Record]:
        """The same metrics of the teacher itself, whose gap is 0."""
        latents = self.outputs(outputs)
        return list(self._rows("teacher", 0, 0, latents, latents))

    def _rows(self, arm: str, seed: int, step: int, latents: Tensor, teacher: Tensor) -> Iterator[Record]:
        from aria.distill.evaluation import comparison
        from aria.distill.evaluation.evaluate import check_finite
        from aria.distill.evaluation.gap import generation_gap

        who = f"arm {arm}, seed {seed}, step {step},"
        values = {comparison.GAP: check_finite(who, generation_gap(teacher, latents))}
        if marks := self.task.marks(self.place, self.examiner.images(latents)):
            comparison.add_scores(values, "the task's marks", marks, len(latents))
        for metric, found in values.items():
            for group, share in self.questions.groups.items():
                if (value := comparison.weighted_mean(found, share)) is not None:
                    yield {"arm": arm, "seed": seed, "step": step, "metric": metric, "group": group, "value": value}


def _worth(output: Path) -> dict[str, Any]:
    """What allocating over the run's regions can gain, or why its log does not tell."""
    from theory.run_worth import UNKNOWN, of_run

    try:
        worth, _ = of_run(output)
    except UNKNOWN as error:
        return {"unknown": str(error)}
    ranges = {name: value._asdict() for name, value in worth.ranges.items()}
    return {"regions": worth.regions, "seen": worth.seen, **ranges}


def _link(source: Path, target: Path) -> None:
    """Hard-link the shared cache into the run's folder: a cache has one writer, which replaces files whole."""
    if target.is_dir():
        return
    with files.replacing_folder(target) as part:
        ignored = shutil.ignore_patterns(files.FOLDER_LOCK)
        shutil.copytree(source, part, copy_function=os.link, dirs_exist_ok=True, ignore=ignored)


def _keep_logs(output: Path) -> None:
    """Remove models, checkpoints and cache of a finished run; keep its settings and logs."""
    (output / "model_index.json").unlink(missing_ok=True)
    for entry in output.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)


def _stop_with(parent: int, current_parent: Callable[[], int] = os.getppid) -> None:
    """Send this process SIGTERM, which saves a checkpoint, once its parent has ended."""

    def watch() -> None:
        while current_parent() == parent:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    """The process of one cell; with ``--with-parent`` it stops when the process that started it ends."""
    folder, *more = sys.argv[1:]
    if more == ["--with-parent"]:
        _stop_with(os.getppid())
    try:
        return 0 if run_cell(Path(folder)) else STOPPED
    except BlockingIOError:
        return BUSY


if __name__ == "__main__":
    sys.exit(main())
