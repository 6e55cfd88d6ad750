"""``aria cache``: everything that a distillation reads from its teacher again and again, computed once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from aria.cli.errors import refusals
from aria.progress import bar


@click.command()
@click.option("--pretrained_model_name_or_path", "teacher", required=True, metavar="T",
              help="The teacher: a pipeline's folder or its name on the hub.")  # fmt: skip
@click.option("--prompts", required=True, type=click.Path(exists=True, path_type=Path), metavar="P",
              help="The pool: a .txt, .csv, .jsonl or .parquet file, or a folder saved by datasets. For a teacher of "
                   "classes, their numbers or names.")  # fmt: skip
@click.option("--caption_column", "column", metavar="NAME",
              help="The column of the prompts; else text, prompt, caption or label.")  # fmt: skip
@click.option("--output_dir", "output", required=True, type=click.Path(path_type=Path), metavar="C",
              help="The folder of the cache; an unfinished one is continued.")  # fmt: skip
@click.option("--num_images", default=0, show_default=True, type=click.IntRange(0, 10**9), metavar="M",
              help="Images to sample from the teacher, of conditions drawn without replacement.")  # fmt: skip
@click.option("--num_inference_steps", "steps", default=25, show_default=True, type=click.IntRange(1))
@click.option("--guidance_scale", "guidance", default=7.5, show_default=True, type=click.FloatRange(0))
@click.option("--train_data_dir", "data", type=click.Path(exists=True, path_type=Path), metavar="D",
              help="Images with metadata.jsonl or a .txt beside each; new captions join the pool.")  # fmt: skip
@click.option("--resolution", type=click.IntRange(1, 1 << 14), help="Pixels a side; the teacher's own unless given.")
@click.option("--dtype", default="fp16", show_default=True, type=click.Choice(["fp16", "bf16", "fp32"]),
              help="What is stored; on a GPU the teacher runs in it as well.")  # fmt: skip
@click.option("--batch_size", default=16, show_default=True, type=click.IntRange(1, 1 << 16),
              help="Images at a time; texts are encoded 8 times as many.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of the table.")
def command(teacher: str, output: Path, dtype: str, as_json: bool, **settings: Any) -> None:
    """Encode the prompts, sample or encode images, and keep it all for `aria distill`.

    C/conditions has one row for each distinct prompt, C/latents the images, C/cache.json what it was made from. Run the
    same command again after an interruption: it goes on where it stopped.
    """
    with refusals(output):
        import torch

        from aria.distill.data.cache import DTYPES, fill
        from aria.distill.models.pipelines import open_pipeline

        _own(output)
        gpu = torch.cuda.is_available()
        pipeline = open_pipeline(teacher, dtype=DTYPES[dtype] if gpu else torch.float32).to("cuda" if gpu else "cpu")
        try:
            record = fill(output, pipeline, dtype=dtype, bar=bar, **settings)
        except torch.OutOfMemoryError as error:
            size = settings["batch_size"]
            raise click.ClickException(f"out of memory with --batch_size {size}: a smaller one goes on here") from error
    click.echo(json.dumps(record, ensure_ascii=False) if as_json else _table(output, record))


def _own(output: Path) -> None:
    """Refuse a folder that holds something else, such as the teacher."""
    held = {entry.name for entry in output.iterdir()} if output.is_dir() else set()
    if held and not held & {"cache.json", "conditions"}:
        raise ValueError(f"{output} is not empty and no cache: choose another folder")


def _table(output: Path, record: dict[str, Any]) -> str:
    prompts, conditions, latents = record["prompts"], record["conditions"], record["latents"]
    joined = f", {prompts['captions_joined']} from captions" if prompts["captions_joined"] else ""
    skipped = f", {prompts['skipped']} empty ones skipped" if prompts["skipped"] else ""
    lines = [
        f"conditions  {conditions['rows']:>9}  {_size(conditions['bytes']):>9}  "
        f"{conditions['distinct']} distinct{joined}{skipped}",
        f"latents     {latents['rows']:>9}  {_size(latents['bytes']):>9}",
    ]
    if prompts["left_out"]:
        lines.append(f"columns left out, since they hold more than labels: {', '.join(prompts['left_out'])}")
    return "\n".join([*lines, f"written to {output}"])


def _size(count: float) -> str:
    """Bytes in people's units.

    >>> _size(118_272), _size(5)
    ('118.3 kB', '5 B')
    """
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"
