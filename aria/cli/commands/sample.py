"""``aria sample``: images of teacher and student from the same prompts and the same noise."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from aria import files
from aria.cli import options, tables
from aria.cli.errors import refusals
from aria.distill.settings import checks as early_checks
from aria.progress import bar
from aria.regular import is_there
from aria.text import shown

SCHEDULER = Path("scheduler", "scheduler_config.json")
"""Where a pipeline's folder has its scheduler."""


@click.command()
@options.teacher(required=True, help="The teacher: the folder of a diffusers pipeline, or its name on the hub.")
@click.option("--student", required=True, metavar="O",
              help="The student: the folder of a pipeline, as written by `aria distill`, or of a model, as written by "
                   "`aria prune`.")  # fmt: skip
@click.option("--prompt", "prompt", multiple=True, metavar="TEXT",
              help="A prompt to generate images of; may be repeated.")  # fmt: skip
@click.option("--prompts", "path", type=click.Path(path_type=Path), metavar="P",
              help="A file of prompts, instead of --prompt.")  # fmt: skip
@options.caption_column
@click.option("--num_prompts", "count", default=8, show_default=True, type=click.IntRange(1),
              help="Number of prompts to take from the beginning of the file.")  # fmt: skip
@options.inference_steps
@click.option("--student_steps", type=click.IntRange(1),
              help="Number of sampling steps of the student; by default as many as the teacher's.")  # fmt: skip
@options.guidance_scale
@options.resolution
@click.option("--dtype", default="fp32", show_default=True, type=click.Choice(["fp32", "bf16", "fp16"]),
              help="Precision in which both models run.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0),
              help="Seed of the noise that both models start from.")  # fmt: skip
@click.option("--output", default="samples.png", show_default=True, type=click.Path(path_type=Path), metavar="FILE",
              help="The PNG file to write: one row for each prompt, the teacher's image beside the student's.")
@options.as_json
def command(prompt: tuple[str, ...], path: Path | None, column: str | None, count: int, output: Path, as_json: bool,
            **settings: Any) -> None:  # fmt: skip
    """Generate images of teacher and student from the same prompts and noise, and print how far apart they are.

    The generation gap is the mean squared difference between the two final latents. It measures how well the student
    follows the teacher over the whole trajectory, not how good an image is.
    """
    with refusals(output):
        _check(output, teacher=settings["teacher"], student=settings["student"], prompt=prompt, path=path)
        prompts = _prompts(prompt, path, column, count)
        record = {"output": str(output), **compare(prompts, output, **settings)}
    tables.echo_json(record) if as_json else tables.echo(_table(record))


def compare(
    prompts: list[str],
    output: Path,
    *,
    teacher: str,
    student: str,
    steps: int,
    student_steps: int | None,
    guidance: float,
    resolution: int | None,
    dtype: str,
    seed: int,
) -> dict[str, Any]:
    """Write the picture and return the gaps."""
    import torch

    from aria import checks
    from aria.distill.data.cache import DTYPES
    from aria.distill.engine.learner import same_latents
    from aria.distill.evaluation import grids
    from aria.distill.models import denoisers
    from aria.distill.models.pipelines import open_model, open_pipeline

    checks.non_negative("--guidance_scale", guidance)
    _ended(Path(student))
    stored: torch.dtype = DTYPES[dtype]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = open_model(student, dtype=stored).to(device).eval()
    pipeline = open_pipeline(teacher, dtype=stored).to(device)
    denoiser = denoisers.of(pipeline)
    own = denoiser.model_of(pipeline)
    same_latents(own, model)
    noise = grids.starting_noise(denoiser, pipeline, len(prompts), seed, resolution).to(device, stored)
    conditions, null = grids.encoded(pipeline, denoiser, prompts)
    shared: dict[str, Any] = {"guidance": guidance, "seed": seed}
    own_steps: dict[str, Any] = {"steps": student_steps or steps, "scheduler": _scheduler(Path(student), pipeline)}
    latents, columns = {}, {}
    for name, one, how in (("teacher", own, {"steps": steps}), ("student", model, own_steps)):
        with bar(name) as progress:
            latents[name] = grids.generated(
                pipeline, denoiser, one, conditions, null, noise, progress=progress, **shared, **how
            )
        columns[name] = grids.pictures(pipeline, denoiser, latents[name])
    grids.write_png(grids.grid(prompts, columns), output)
    settings: dict[str, Any] = {"num_inference_steps": steps, "student_steps": student_steps or steps}
    settings |= {"guidance_scale": guidance, "dtype": dtype, "seed": seed}
    return {**grids.gap_record(prompts, **latents), "settings": settings | {"resolution": resolution}}


def _prompts(given: tuple[str, ...], path: Path | None, column: str | None, count: int) -> list[str]:
    from aria.distill.data.prompt_files import read_prompts

    return list(given) if path is None else read_prompts(path, column=column).texts[:count]


def _scheduler(student: Path, pipeline: Any) -> Any:
    """The scheduler of a pipeline's folder, of the pipeline that holds a model, or of a checkpoint's run; a model alone
    is sampled as its teacher is."""
    folder = student.resolve().parent
    for home in (student, folder):
        if is_there(home / SCHEDULER):
            return _read(home / SCHEDULER)
    return _trained_with(folder, pipeline) if (folder / "state.json").is_file() else None


def _read(path: Path) -> Any:
    """The scheduler that a file describes."""
    import diffusers

    from aria.distill.models import configs
    from aria.fields import short

    config = configs.read_config(path)
    name = config.get("_class_name", "")
    kind: Any = getattr(diffusers, name, None) if isinstance(name, str) else None
    known = isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)
    if not known:
        raise ValueError(f"{path} names no scheduler of diffusers: {short(name)}")
    configs.check_config(f"{path} describes no {kind.__name__}", config, kind)
    try:
        return kind.from_config(config)
    except Exception as error:  # diffusers checks no types, so that a foreign value fails wherever it is used
        raise ValueError(f"{path} describes no {kind.__name__}: {type(error).__name__}: {error}") from error


def _trained_with(folder: Path, pipeline: Any) -> Any:
    """The scheduler with which a checkpoint's run will deliver its student, made of the teacher's as the run makes it.

    A run of another teacher's scheduler is refused: what its student predicts would be taken for something else.
    """
    from aria.distill.data import fingerprint
    from aria.distill.models import denoisers
    from aria.distill.runs import checkpoint
    from aria.distill.teachers import halving

    run, own = checkpoint.check(folder)["settings"], denoisers.of(pipeline).model_of(pipeline)
    scheduler = pipeline.scheduler if run.get("halve_from") is None else halving.deterministic(pipeline.scheduler)
    made = fingerprint.model(SimpleNamespace(scheduler=scheduler), own, own.dtype)
    if run.get("scheduler") != made["scheduler"]:
        raise ValueError(f"{folder} was trained with another teacher's scheduler: show it beside its run's own teacher")
    prediction = run.get("student_prediction")
    changes = {} if prediction is None else {"prediction_type": prediction}
    return type(scheduler).from_config(scheduler.config, **changes)


def _ended(student: Path) -> None:
    """Refuse a run that has not ended, and name the newest model of its checkpoints."""
    from aria.distill.runs import checkpoint

    if found := [] if (student / "model_index.json").is_file() else checkpoint.folders(student):
        model = [found[-1], *sorted(path.parent for path in found[-1].glob("*/config.json"))][-1]  # *_ema is last
        raise ValueError(f"{student} is a run that has not ended; give a model of a checkpoint, such as {model}")


def _check(output: Path, *, teacher: str, student: str, prompt: tuple[str, ...], path: Path | None) -> None:
    """Refuse what can be refused before torch is loaded."""
    if output.suffix.lower() != ".png":
        raise ValueError(f"--output must be a .png file, got {output}")
    files.check_writable(output)
    if bool(prompt) == (path is not None):
        raise ValueError("give either --prompt TEXT, which may be repeated, or --prompts FILE")
    if path is not None:
        early_checks.check_prompts(path)
    early_checks.check_pipeline(teacher)
    early_checks.check_model(student, "student")


def _table(record: dict[str, Any]) -> str:
    lines = [f"{'gap':>10}  prompt"]
    lines += [f"{row['gap']:>10.4g}  {shown(row['prompt'])}" for row in record["prompts"]]
    return "\n".join([*lines, f"{record['gap']:>10.4g}  overall", f"written to {record['output']}"])
