"""``aria cache``: encoded prompts and latents, computed once for many runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aria import files
from aria.cli import options, tables
from aria.cli.errors import refusals
from aria.distill.settings import checks
from aria.progress import bar


@click.command()
@options.teacher(required=True, help="The teacher: the folder of a diffusers pipeline, or its name on the hub.")
@click.option("--prompts", required=True, type=click.Path(exists=True, path_type=Path), metavar="P",
              help="The pool of prompts: a txt, csv, jsonl or parquet file, or a folder saved by the datasets library. "
                   "For a class-conditional teacher, the numbers or names of classes.")  # fmt: skip
@options.caption_column
@click.option("--output_dir", "output", required=True, type=click.Path(path_type=Path), metavar="C",
              help="Folder of the cache; an unfinished one is continued.")  # fmt: skip
@click.option("--num_images", default=0, show_default=True, type=click.IntRange(0, 10**9), metavar="M",
              help="Number of images that the teacher generates, of prompts drawn without replacement.")  # fmt: skip
@options.inference_steps
@options.guidance_scale
@click.option("--train_data_dir", "data", type=click.Path(exists=True, path_type=Path), metavar="D",
              help="Folder of images to encode, with captions in metadata.jsonl or in a txt file beside each image; "
                   "captions that are not in the pool are added to it.")  # fmt: skip
@options.resolution
@options.num_frames
@click.option("--dtype", default="fp16", show_default=True, type=click.Choice(["fp16", "bf16", "fp32"]),
              help="Precision in which encodings and latents are stored; on a GPU the teacher also runs in it.")
@click.option("--batch_size", default=16, show_default=True, type=click.IntRange(1, 1 << 16),
              help="Number of images per forward pass; prompts are encoded 8 times as many at a time.")  # fmt: skip
@options.seed
@options.as_json
def command(teacher: str, output: Path, dtype: str, as_json: bool, **settings: Any) -> None:
    """Encode prompts, generate or encode images, and store both for `aria distill`.

    C/conditions has one row for each distinct prompt, C/latents the images, and C/cache.json records what the cache was
    made from. Run the same command again after an interruption, or after the prompts file changed: only what is missing
    is computed.
    """
    with refusals(output):
        checks.check_pipeline(teacher)
        _check_folder(output)
        import torch

        from aria.distill.data.cache import DTYPES, fill
        from aria.distill.models.pipelines import open_pipeline

        gpu = torch.cuda.is_available()
        pipeline = open_pipeline(teacher, dtype=DTYPES[dtype] if gpu else torch.float32).to("cuda" if gpu else "cpu")
        try:
            record = fill(output, pipeline, dtype=dtype, bar=bar, **settings)
        except torch.OutOfMemoryError as error:
            size = settings["batch_size"]
            raise click.ClickException(
                f"out of memory with --batch_size {size}: run the same command with a smaller one to continue"
            ) from error
    tables.echo_json(record) if as_json else tables.echo(_table(output, record))


def _check_folder(output: Path) -> None:
    """Refuse a folder that holds something else, such as the teacher."""
    held = {entry.name for entry in output.iterdir()} - {files.FOLDER_LOCK} if output.is_dir() else set()
    if held and not held & {"cache.json", "conditions"}:
        raise ValueError(f"{output} is neither empty nor a cache: choose another folder")


def _table(output: Path, record: dict[str, Any]) -> str:
    prompts, conditions, latents = record["prompts"], record["conditions"], record["latents"]
    joined = f", {prompts['captions_joined']} from captions" if prompts["captions_joined"] else ""
    skipped = f", {prompts['skipped']} empty ones skipped" if prompts["skipped"] else ""
    lines = [
        f"conditions  {conditions['rows']:>9}  {_size(conditions['bytes']):>9}  "
        f"{conditions['distinct']} distinct{joined}{skipped}",
        f"latents     {latents['rows']:>9}  {_size(latents['bytes']):>9}",
    ]
    if conditions["unused"]:
        lines.append(f"{conditions['unused']} rows of removed prompts stay on the disk; a new folder is without them")
    if prompts["left_out"]:
        lines.append(f"columns left out, because they hold more than labels: {', '.join(prompts['left_out'])}")
    return "\n".join([*lines, f"written to {output}"])


def _size(count: float) -> str:
    """A number of bytes, readable.

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
