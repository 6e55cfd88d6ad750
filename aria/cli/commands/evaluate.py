"""``aria evaluate``: students beside their teacher on prompts in groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aria.cli import options, tables
from aria.cli.errors import refusals
from aria.distill.settings import checks as early_checks
from aria.progress import bar, silent

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.command()
@click.argument("teacher")
@click.argument("students", nargs=-1, required=True)
@click.option("--prompts", required=True, type=click.Path(path_type=Path), metavar="P",
              help="A file of prompts, as for `aria distill`.")  # fmt: skip
@options.caption_column
@click.option("--group", metavar="COLUMN", help="Column whose values are the groups.")
@click.option("--pool", type=click.Path(path_type=Path), metavar="P",
              help="The prompts on which the students were trained: how many of them are in groups with a prompt here "
                   "is shown.")  # fmt: skip
@click.option("--scorer", "scorers", multiple=True, metavar="SPEC", callback=options.part("scorer"),
              help="Another score of the images: clip('FOLDER'), classifier('FOLDER'), or a class of your own as "
                   "file.py:Class. Repeat the option for several.")  # fmt: skip
@options.inference_steps
@options.student_steps
@options.guidance_scale
@options.resolution
@options.num_frames
@options.dtype
@options.noise_seed
@click.option("--output_dir", default="evaluation", show_default=True, type=click.Path(path_type=Path), metavar="DIR",
              help="Folder of the result, its page and the sheet of pictures.")  # fmt: skip
@options.as_json
def command(teacher: str, students: tuple[str, ...], prompts: Path, output_dir: Path, pool: Path | None, dtype: str,
            as_json: bool, **settings: Any) -> None:  # fmt: skip
    """Compare students with their TEACHER on prompts in groups.

    Teacher and STUDENTS – folders of pipelines, or of models – make an image of every prompt from the same noise.
    Prints the generation gap of every group with a bootstrap interval, and how each further student differs from the
    first; writes DIR/evaluation.json, DIR/report.html and DIR/prompts.png, a sheet of the best, median and worst
    prompts.
    """
    with refusals(output_dir):
        early_checks.check_pipeline(teacher)
        for student in students:
            early_checks.check_model(student, "student")
        early_checks.check_prompts(prompts)
        if pool is not None:
            early_checks.check_prompts(pool, "pool")
        if output_dir.exists() and not output_dir.is_dir():
            raise ValueError(f"--output_dir must be a folder, {output_dir} is a file")
        from aria.distill.data.cache import DTYPES
        from aria.distill.evaluation.evaluate import Evaluation, evaluate

        plan = Evaluation(teacher, students, prompts, pool=pool, dtype=DTYPES[dtype], **settings)
        result = evaluate(plan, output_dir, bar=silent if as_json else bar)
    tables.echo_json(result) if as_json else tables.echo(text(result, output_dir))


def text(result: Mapping[str, Any], output: Path) -> str:
    """The table for a terminal."""
    from aria.distill.evaluation.comparison import LEAST
    from aria.distill.evaluation.evaluate import PAGE, PICTURES, RESULT
    from aria.distill.evaluation.evaluation_page import between

    wide, name, metric = (max(len(key), *(len(row[key]) for row in result["table"])) + 2
                          for key in ("group", "student", "metric"))  # fmt: skip
    head = f"{'metric':{metric}}{'group':{wide}}{'prompts':>7}  {'student':{name}}{'mean':>10}  {'95 % interval':24}"
    lines = [f"{head}change"]
    for row in result["table"]:
        mean = "–" if row["mean"] is None else f"{row['mean']:.4g}"
        interval = between(row["low"], row["high"], "{:.4g}") or "–"
        start = f"{row['metric']:{metric}}{row['group']:{wide}}{row['prompts']:>7}  {row['student']:{name}}"
        lines.append(f"{start}{mean:>10}  {interval:24}{_change(row['change'])}".rstrip())
    if few := [group for group, count in result["groups"].items() if count < LEAST]:
        lines.append(f"too few prompts for an interval or a test, which need {LEAST}: {', '.join(few)}")
    if (covered := result["coverage"]) is not None:
        lines.append(f"{covered['groups']} of the pool's {covered['of']} groups have a prompt here; they have "
                     f"{covered['share']:.0%} of the pool")  # fmt: skip
    return "\n".join([*lines, "", *(str(output / part) for part in (PAGE, PICTURES, RESULT))])


def _change(found: Mapping[str, Any] | None) -> str:
    from aria.distill.evaluation.evaluation_page import between

    if found is None or found["mean"] is None:
        return ""
    interval = between(found["low"], found["high"], "{:+.1f}")
    p = found.get("p_adjusted")
    known = [f" ({interval})" if interval else "", f", p {p:.2g}" if p is not None else ""]
    return f"{found['mean']:+.1f} %{''.join(known)}"
