"""``aria sample``: images of teacher and student from the same prompts and the same noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aria import files
from aria.cli import options, tables
from aria.cli.errors import refusals
from aria.distill.settings import checks as early_checks
from aria.progress import bar
from aria.text import shown


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
@options.student_steps
@options.guidance_scale
@options.resolution
@options.num_frames
@options.dtype
@options.noise_seed
@click.option("--output", default="samples.png", show_default=True, type=click.Path(path_type=Path), metavar="FILE",
              help="The PNG file to write: one row for each prompt, the teacher's image beside the student's. Of "
                   "videos it has some frames; an animated WebP file of the same name has them all.")  # fmt: skip
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
    frames: int | None,
    dtype: str,
    seed: int,
) -> dict[str, Any]:
    """Write the picture and return the gaps."""
    import torch

    from aria import checks
    from aria.distill.data.cache import DTYPES
    from aria.distill.engine.learner import same_latents
    from aria.distill.evaluation import grids, students
    from aria.distill.evaluation.examiner import Examiner
    from aria.distill.evaluation.gap import gap_record
    from aria.distill.models.pipelines import open_model, open_pipeline

    checks.non_negative("--guidance_scale", guidance)
    students.check_ended(Path(student))
    stored: torch.dtype = DTYPES[dtype]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = open_model(student, dtype=stored).to(device).eval()
    pipeline = open_pipeline(teacher, dtype=stored).to(device)
    examiner = Examiner(pipeline, prompts, guidance=guidance, seed=seed, resolution=resolution, frames=frames)
    same_latents(examiner.teacher, model)
    scheduler = students.scheduler_of(Path(student), pipeline)
    own_steps: dict[str, Any] = {"steps": student_steps or steps, "scheduler": scheduler}
    latents, columns = {}, {}
    for name, one, how in (("teacher", examiner.teacher, {"steps": steps}), ("student", model, own_steps)):
        with bar(name) as progress:
            latents[name] = examiner.latents(one, progress=progress, **how)
        columns[name] = grids.pictures(pipeline, examiner.denoiser, latents[name])
    grids.write_png(grids.grid(prompts, list(columns.items())), output)
    film = grids.write_film(prompts, list(columns.items()), output.with_suffix(".webp"))
    settings: dict[str, Any] = {"num_inference_steps": steps, "student_steps": student_steps or steps}
    settings |= {"guidance_scale": guidance, "dtype": dtype, "seed": seed}
    settings |= {"resolution": resolution, "num_frames": frames}
    return {**({} if film is None else {"film": str(film)}), **gap_record(prompts, **latents), "settings": settings}


def _prompts(given: tuple[str, ...], path: Path | None, column: str | None, count: int) -> list[str]:
    from aria.distill.data.prompt_files import read_prompts

    return list(given) if path is None else read_prompts(path, column=column).texts[:count]


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
    written = " and ".join(record[name] for name in ("output", "film") if name in record)
    return "\n".join([*lines, f"{record['gap']:>10.4g}  overall", f"written to {written}"])
