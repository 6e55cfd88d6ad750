"""What an error of the student at one sampling step costs in the finished picture, beside the velocity weighting.

    python -m benchmarks.credit --out credit --json benchmarks/results/credit-cpu.json

A student of every kind of emoji teacher is trained for some hundred steps. Then the teacher makes pictures, and again
with *one* step by the student (T28). ``error`` is how wrong the student's prediction is at that step, ``gap``
what this changes in the picture, and ``credit`` = gap / error: what an error at this noise level costs. Velocity
weighting is right if the credit is in proportion to its weights, so ``over velocity`` is their ratio, divided by its
median over the steps.

``all steps`` is the gap if the student makes all steps, and ``coherence`` how many times that is the sum of the single
gaps. ``slope`` says whether the error is the gap's currency over captions as well: it is 1 if a caption with twice the
error has twice the gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from torch import Tensor, nn

from aria import files
from aria.bench import device
from aria.bench.result import machine
from aria.distill.evaluation.examiner import Examiner
from aria.distill.evaluation.gap import generation_gap
from aria.distill.models.pipelines import component_of, open_model, open_pipeline
from aria.distill.models.schedule import NoiseSchedule
from aria.distill.objectives.weighting import Velocity
from aria.distill.runs.run import run
from aria.distill.settings.config import Config
from aria.progress import bar, silent
from aria.tasks.emoji.kinds import KINDS
from aria.tasks.emoji.task import Emoji
from benchmarks.matrix_table import line
from theory import bounds

PREDICTIONS = {"unet-v": "v_prediction", "joint-attention": "flow_prediction"}
"""What the kinds of teachers predict, if not the noise."""


@click.command()
@click.option("--kinds", multiple=True, type=click.Choice(list(KINDS)), default=list(KINDS), help="Kinds of teachers.")
@click.option("--train", type=click.IntRange(1), default=200, show_default=True, help="Training steps of the student.")
@click.option("--captions", type=click.IntRange(2), default=64, show_default=True, help="Number of pictures.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the runs.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="File for the numbers.")
def main(kinds: Sequence[str], train: int, captions: int, out: Path, target: Path | None) -> None:
    """Measure credit along sampling for students of the emoji teachers. Kinds that the file has are not repeated."""
    known: dict[str, Any] = files.read_json(target)["kinds"] if target is not None and target.is_file() else {}
    torch.set_num_threads(1)
    for kind in kinds:
        if kind not in known:
            known[kind] = measure(kind, train, captions, out / kind)
        if target is not None:
            own = {"machine": machine(device.chosen("cpu")), "train": train, "captions": captions}
            files.write_json(target, own | {"kinds": known})
    click.echo(table(known))


def measure(kind: str, train: int, captions: int, folder: Path) -> dict[str, Any]:
    """The credit of every sampling step of one teacher."""
    task = Emoji(teacher=kind, asked=captions)
    task.prepare(folder / "task", bar, "cpu")
    own = {"output_dir": str(folder / "run"), "max_train_steps": train, "weighting": "velocity", "seed": 0}
    run(Config().with_values(task.settings(folder / "task") | own), bar=silent, quiet=True)
    pipeline = open_pipeline(folder / "task" / "teacher")
    student = open_model(folder / "run" / component_of(pipeline)).eval()
    examiner = Examiner(pipeline, task.questions(folder / "task").prompts, guidance=task.guidance, seed=0)
    teacher = examiner.teacher.eval()

    def pictures(model: nn.Module) -> Tensor:
        return examiner.latents(model, steps=task.steps)

    errors: dict[float, list[Tensor]] = {}
    with replaced(teacher, student, at=None, errors=errors):
        wanted = pictures(teacher)
    levels = sorted(errors, reverse=True)
    single = {}
    for level in levels:
        with replaced(teacher, student, at=level, errors={}):
            single[level] = generation_gap(wanted, pictures(teacher))
    gap = generation_gap(wanted, pictures(student))
    error = {level: torch.cat(parts) for level, parts in errors.items()}
    weights = velocity(kind, pipeline.scheduler, levels)
    rows = []
    for level in levels:
        row = {"timestep": level, "error": float(error[level].mean()), "gap": float(single[level].mean())}
        rows.append(row | {"credit": row["gap"] / row["error"], "velocity": weights[level]})
    middle = median(row["credit"] / row["velocity"] for row in rows)
    for row in rows:
        row["over_velocity"] = row["credit"] / row["velocity"] / middle
    # With guidance each caption is in a level's calls twice, without and with its condition.
    weighted = torch.stack([weights[level] * error[level].view(-1, len(gap)).mean(0) for level in levels]).sum(0)
    return {
        "steps": rows,
        "all_steps": float(gap.mean()),
        "coherence": float(bounds.coherence(float(gap.mean()), [row["gap"] for row in rows])),
        "slope": slope(weighted, gap),
    }


def velocity(kind: str, scheduler: Any, levels: Sequence[float]) -> dict[float, float]:
    """The weights of velocity weighting at these timesteps."""
    schedule = NoiseSchedule.of(scheduler)
    time = torch.arange(len(schedule)) if schedule.time is None else schedule.time
    weights = Velocity().table(schedule, PREDICTIONS.get(kind, "epsilon"))
    return {level: float(weights[(time - level).abs().argmin()]) for level in levels}


@contextmanager
def replaced(
    teacher: nn.Module, student: nn.Module, *, at: float | None, errors: dict[float, list[Tensor]]
) -> Iterator[None]:
    """While the teacher samples, the student makes the step at this timestep; if ``at`` is None, none, and the mean
    squared differences of their predictions are added to ``errors``."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        level = kwargs["timestep"] if "timestep" in kwargs else args[1]
        level = float(level.flatten()[0])
        if at not in (None, level):
            return output
        answer = student(*args, **kwargs)
        if at is None:
            errors.setdefault(level, []).append((answer[0] - output[0]).square().flatten(1).mean(1))
            return output
        return answer

    handle = teacher.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def slope(error: Tensor, gap: Tensor) -> float:
    """Of log gap over log error, by least squares over captions."""
    x, y = error.double().log(), gap.double().log()
    x = x - x.mean()
    return float((x * y).sum() / x.square().sum())


def table(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    """In Markdown: the credit over velocity weights by sampling step, from noise to image."""
    known = {kind: kinds[kind] for kind in KINDS if kind in kinds}
    steps = range(1, 1 + max(len(found["steps"]) for found in known.values()))
    heads = ["teacher", *map(str, steps), "coherence", "slope"]
    lines = [line(heads), line(["---"] * len(heads))]
    for kind, found in known.items():
        cells = [f"{row['over_velocity']:.2f}" for row in found["steps"]]
        lines.append(line([kind, *cells, f"{found['coherence']:.1f}", f"{found['slope']:.2f}"]))
    return "\n".join(lines)



if __name__ == "__main__":
    main()
