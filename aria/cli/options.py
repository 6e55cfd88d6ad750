"""Options that several commands share, and checks of options that need not load torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from aria import files, specs

FIGURES = (".png", ".svg", ".pdf")
"""Suffixes of the figures that can be written."""

as_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of the table.")
caption_column = click.option(
    "--caption_column", "column", metavar="NAME",
    help="Column that holds the prompts; by default text, prompt, caption or label.",
)  # fmt: skip
inference_steps = click.option(
    "--num_inference_steps", "steps", default=25, show_default=True, type=click.IntRange(1),
    help="Number of sampling steps in which the teacher generates an image.",
)  # fmt: skip
student_steps = click.option(
    "--student_steps", type=click.IntRange(1),
    help="Number of sampling steps of a student; by default as many as the teacher's.",
)  # fmt: skip
guidance_scale = click.option(
    "--guidance_scale", "guidance", default=7.5, show_default=True, type=click.FloatRange(0),
    help="Guidance scale with which images are generated; 1 is no guidance.",
)  # fmt: skip
resolution = click.option(
    "--resolution", type=click.IntRange(1, 1 << 14),
    help="Width and height of the images in pixels; by default the teacher's own.",
)  # fmt: skip
num_frames = click.option(
    "--num_frames", "frames", type=click.IntRange(1, 1 << 14), metavar="F",
    help="Number of frames of the videos, for a teacher that makes videos; by default the pipeline's own.",
)  # fmt: skip
dtype = click.option(
    "--dtype", default="fp32", show_default=True, type=click.Choice(["fp32", "bf16", "fp16"]),
    help="Precision in which the models run.",
)  # fmt: skip
noise_seed = click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0),
    help="Seed of the noise that all models start from.",
)  # fmt: skip
seed = click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of all random numbers."
)


def teacher(*, required: bool, help: str) -> Callable[[Any], Any]:
    """The option that names a teacher, as diffusers' scripts call it."""
    return click.option("--pretrained_model_name_or_path", "teacher", required=required, metavar="T", help=help)


def part(kind: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A click callback that refuses specs which name no part of this kind."""

    def check(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
        for spec in value if isinstance(value, tuple) else (value,):
            if spec is not None:
                try:
                    specs.check(spec, kind)
                except specs.SpecError as error:
                    raise click.BadParameter(str(error)) from error
        return value

    return check


own_partitioner = click.option(
    "--partitioner", "spec", metavar="SPEC", callback=part("partitioner"),
    help="Partitioner of the run, needed only if it is a class of your own: file.py:Class.",
)  # fmt: skip


def figure(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A click callback that refuses a figure that could not be written, before anything is computed."""
    if value is None:
        return None
    if Path(value).suffix.lower() not in FIGURES:
        raise click.BadParameter(f"{value!r} must end in one of {', '.join(FIGURES)}")
    files.check_writable(Path(value))
    return value
