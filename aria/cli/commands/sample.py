"""``aria sample``: what teacher and student make of the same prompts and the same noise."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from aria import whole_file
from aria.cli.errors import refusals
from aria.progress import bar

SCHEDULER = Path("scheduler", "scheduler_config.json")
"""Where a pipeline's folder has its scheduler."""


@click.command()
@click.option("--pretrained_model_name_or_path", "teacher", required=True, metavar="T",
              help="The teacher: a pipeline's folder or its name on the hub.")  # fmt: skip
@click.option("--student", required=True, metavar="O",
              help="A pipeline's folder, as `aria distill` writes it, or a model's, as `aria prune` does.")  # fmt: skip
@click.option("--prompt", "prompt", multiple=True, metavar="TEXT", help="A prompt; may be repeated.")
@click.option("--prompts", "path", type=click.Path(path_type=Path), metavar="P", help="A file of prompts instead.")
@click.option("--caption_column", "column", metavar="NAME", help="Its column; else text, prompt, caption or label.")
@click.option("--num_prompts", "count", default=8, show_default=True, type=click.IntRange(1),
              help="How many of the file's prompts are shown: the first.")  # fmt: skip
@click.option("--num_inference_steps", "steps", default=25, show_default=True, type=click.IntRange(1))
@click.option("--student_steps", type=click.IntRange(1), help="Those of the student, if it takes fewer.")
@click.option("--guidance_scale", "guidance", default=7.5, show_default=True, type=click.FloatRange(0))
@click.option("--resolution", type=click.IntRange(1, 1 << 14), help="Pixels a side; the teacher's own unless given.")
@click.option("--dtype", default="fp32", show_default=True, type=click.Choice(["fp32", "bf16", "fp16"]))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the noise to begin from.")
@click.option("--output", default="samples.png", show_default=True, type=click.Path(path_type=Path), metavar="FILE",
              help="The picture: a row for each prompt, the teacher's image beside the student's.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of the table.")
def command(prompt: tuple[str, ...], path: Path | None, column: str | None, count: int, output: Path, as_json: bool,
            **settings: Any) -> None:  # fmt: skip
    """Show what teacher and student make of the same prompts from the same noise, and print how far apart they are.

    The generation gap is the mean squared difference between the two final latents. It tells how well the student
    follows its teacher's whole path; it is no measure of how good an image is.
    """
    with refusals(output):
        _writable(output)
        prompts = _prompts(prompt, path, column, count)
        record = {"output": str(output), **compare(prompts, output, **settings)}
    click.echo(json.dumps(record, ensure_ascii=False) if as_json else _table(record))


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
    told: dict[str, Any] = {"guidance": guidance, "seed": seed}
    ours: dict[str, Any] = {"steps": student_steps or steps, "scheduler": _scheduler(Path(student), pipeline)}
    latents, columns = {}, {}
    for name, shown, how in (("teacher", own, {"steps": steps}), ("student", model, ours)):
        with bar(name) as progress:
            latents[name] = grids.generated(
                pipeline, denoiser, shown, conditions, null, noise, progress=progress, **told, **how
            )
        columns[name] = grids.pictures(pipeline, denoiser, latents[name])
    grids.write_png(grids.grid(prompts, columns), output)
    settings: dict[str, Any] = {"num_inference_steps": steps, "student_steps": student_steps or steps}
    settings |= {"guidance_scale": guidance, "dtype": dtype, "seed": seed}
    return {**grids.gap_record(prompts, **latents), "settings": settings | {"resolution": resolution}}


def _prompts(given: tuple[str, ...], path: Path | None, column: str | None, count: int) -> list[str]:
    from aria.distill.data.prompt_files import read_prompts

    if bool(given) == (path is not None):
        raise ValueError("say what to show: --prompt TEXT, which may be repeated, or --prompts FILE")
    return list(given) if path is None else read_prompts(path, column=column).texts[:count]


def _scheduler(student: Path, pipeline: Any) -> Any:
    """The scheduler of a pipeline's folder, of the pipeline that holds a model, or of a checkpoint's run; a model alone
    is sampled as its teacher is."""
    folder = student.resolve().parent
    for home in (student, folder):
        if (home / SCHEDULER).is_file():
            return _read(home / SCHEDULER)
    return _trained_with(folder, pipeline) if (folder / "state.json").is_file() else None


def _read(path: Path) -> Any:
    """The scheduler that a file describes."""
    import diffusers

    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        kind: Any = getattr(diffusers, told.get("_class_name", ""), None)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON object: {error}") from None
    known = isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)
    if not known:
        raise ValueError(f"{path} names no scheduler of diffusers: {told.get('_class_name')!r}")
    try:
        return kind.from_config(told)
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
    """Answer a run that has not ended by the newest model it holds."""
    from aria.distill.runs import checkpoint

    if found := [] if (student / "model_index.json").is_file() else checkpoint.folders(student):
        model = [found[-1], *sorted(path.parent for path in found[-1].glob("*/config.json"))][-1]  # *_ema is last
        raise ValueError(f"{student} is a run that has not ended; show a model of a checkpoint, such as {model}")


def _writable(output: Path) -> None:
    """Refuse a file that cannot be written before anything is made."""
    if output.suffix.lower() != ".png":
        raise ValueError(f"--output must be a .png file, got {output}")
    whole_file.check_writable(output)


def _table(record: dict[str, Any]) -> str:
    lines = [f"{'gap':>10}  prompt"]
    lines += [f"{row['gap']:>10.4g}  {row['prompt']}" for row in record["prompts"]]
    return "\n".join([*lines, f"{record['gap']:>10.4g}  overall", f"written to {record['output']}"])
