"""``aria prune``: a smaller student from a teacher's UNet or transformer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aria.cli import options, tables
from aria.cli.errors import Refusal, refusals
from aria.distill.settings import checks, config_file
from aria.progress import bar
from aria.regular import read_text


@click.command()
@options.teacher(required=True, help="The teacher: the folder of a pipeline, or of its UNet or transformer.")
@click.option("--output_dir", "output", required=True, type=click.Path(path_type=Path), metavar="S",
              help="Folder of the student, which must not exist or be empty.")  # fmt: skip
@click.option("--preset", metavar="NAME",
              help="For a UNet the students of BK-SDM: bk-base, bk-small or bk-tiny. For a transformer the share of "
                   "its blocks that is kept, evenly spaced: half, third or quarter.")  # fmt: skip
@click.option("--block_map", type=click.Path(path_type=Path), metavar="FILE",
              help="A JSON or YAML file that lists the blocks of a UNet to keep.")  # fmt: skip
@click.option("--blocks", metavar="N,N,…", help="Blocks of a transformer to keep, counted from 0.")
@click.option("--single_blocks", metavar="N,N,…",
              help="Single-stream blocks of a Flux or AuraFlow transformer to keep, counted from 0; --blocks are then "
                   "its double-stream blocks.")  # fmt: skip
@click.option("--keep", type=int, metavar="N",
              help="Number of blocks of a transformer to keep, chosen by --by.")  # fmt: skip
@click.option("--keep_single", type=int, metavar="N",
              help="Number of single-stream blocks of a Flux or AuraFlow transformer to keep, likewise.")  # fmt: skip
@click.option("--by", default="position", show_default=True,
              type=click.Choice(["position", "similarity", "recoverability"]),
              help="How --keep chooses: position keeps evenly spaced blocks, similarity removes those whose output is "
                   "most similar to their input, recoverability those that a linear map replaces best. The last two "
                   "measure the teacher on images of --prompts or of --cache_dir.")  # fmt: skip
@click.option("--prompts", type=click.Path(path_type=Path), metavar="P",
              help="A file of prompts; the teacher generates images of some of them to be measured on.")  # fmt: skip
@options.caption_column
@click.option("--cache_dir", "cache", type=click.Path(path_type=Path), metavar="C",
              help="A folder of `aria cache` with images to be measured on, instead of --prompts.")  # fmt: skip
@click.option("--measure_on", default=8, show_default=True, type=click.IntRange(2), metavar="N",
              help="Number of images to be measured on, each at four noise levels.")  # fmt: skip
@options.inference_steps
@options.guidance_scale
@options.resolution
@options.num_frames
@click.option("--dtype", default="fp32", show_default=True, type=click.Choice(["fp32", "bf16", "fp16"]),
              help="Precision in which the teacher runs while it is measured.")  # fmt: skip
@click.option("--one_pass", is_flag=True,
              help="With recoverability, measure every block once instead of again after each removal.")  # fmt: skip
@click.option("--width", type=float, metavar="FACTOR",
              help="Factor by which the width of every stage of a UNet, or the number of heads of a transformer, is "
                   "multiplied, such as 0.75.")  # fmt: skip
@click.option("--block_out_channels", "channels", metavar="C,C,…",
              help="Width of every stage of the UNet that is kept.")  # fmt: skip
@click.option("--num_attention_heads", "heads", type=int, metavar="H",
              help="Number of attention heads of the transformer.")  # fmt: skip
@click.option("--attention_head_dim", "head_width", type=int, metavar="D",
              help="Width of each attention head of the transformer.")  # fmt: skip
@click.option("--init", default="slice", show_default=True, metavar="HOW",
              help="Where the weights of the student come from: slice copies weights of equal shape and cuts larger "
                   "ones, copy copies only weights of equal shape, fresh initialises all of them.")  # fmt: skip
@click.option("--seed", default=0, show_default=True,
              help="Seed of the weights that are initialised, and of what blocks are measured on.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace a student that is already in the folder.")
@options.as_json
def command(
    teacher: str,
    output: Path,
    preset: str | None,
    block_map: Path | None,
    blocks: str | None,
    single_blocks: str | None,
    keep: int | None,
    keep_single: int | None,
    by: str,
    measure_on: int,
    width: float | None,
    channels: str | None,
    heads: int | None,
    head_width: int | None,
    init: str,
    seed: int,
    overwrite: bool,
    as_json: bool,
    **measuring: Any,
) -> None:
    """Make a smaller student from the UNet or transformer of a teacher: fewer blocks, narrower ones, or both.

    The student is the folder of a plain diffusers model. Its student.json records the teacher, the sizes and which of
    its modules correspond to the teacher's; inheritance.json records where each weight comes from.
    """
    if {preset, block_map, blocks, single_blocks, keep, keep_single, width, channels, heads, head_width} == {None}:
        raise Refusal(
            "nothing is removed; give --preset, --block_map, --width or --block_out_channels, or for a transformer "
            "--preset, --keep, --blocks, --single_blocks, --width, --num_attention_heads or --attention_head_dim"
        )
    with refusals(output):
        checks.check_model(teacher, "pretrained_model_name_or_path")
        from aria.distill.students import Measurement, prune

        measured = by != "position" or measuring["prompts"] or measuring["cache"]
        measurement = Measurement(count=measure_on, bar=bar, **measuring) if measured else None
        record = prune(
            teacher,
            output,
            preset=preset,
            block_map=None if block_map is None else _read_map(block_map),
            width=width,
            block_out_channels=_numbers("--block_out_channels", channels, "240,480,960,960"),
            blocks=_numbers("--blocks", blocks, "0,2,5"),
            single_blocks=_numbers("--single_blocks", single_blocks, "0,1,5"),
            num_attention_heads=heads,
            attention_head_dim=head_width,
            keep=keep,
            keep_single=keep_single,
            by=by,  # type: ignore[arg-type]  # one of the choices above
            measurement=measurement,
            init=init,  # type: ignore[arg-type]  # checked there, with what is allowed
            seed=seed,
            overwrite=overwrite,
        )
    if as_json:
        tables.echo_json(record)
        return
    if (choice := record["blocks"].get("choice", {})).get("rows"):
        tables.echo(_choice(choice))
    tables.echo(_table(record))


def _read_map(path: Path) -> Any:
    """The map in a JSON or YAML file: JSON is YAML."""
    import yaml

    try:
        return config_file.read_yaml(read_text(path, most=config_file.LARGEST))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None
    except RecursionError:
        raise ValueError(f"{path} is neither JSON nor YAML: its brackets are nested too deeply") from None
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f", line {place.line + 1}" if place else ""
        raise ValueError(f"{path}{line} is neither JSON nor YAML: {getattr(error, 'problem', None) or error}") from None


def _numbers(option: str, text: str | None, such_as: str) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} takes numbers such as {such_as}, got {text!r}") from None


def _choice(choice: dict[str, Any]) -> str:
    """What was measured of each block, and of the student."""
    rows = [
        {
            "block": f"{'single ' if row['list'] == 'single_blocks' else ''}{row['block']}",
            "error_when_skipped": row["error_skipped"],
            "error_after_repair": row["error_repaired"],
            "similarity": row["similarity"],
            "": "kept" if row["removed"] is None else f"removed {row['removed']}.",
        }
        for row in choice["rows"]
    ]
    repaired = choice["student_error_repaired"]
    after = "" if repaired is None else f"; {repaired:.4g} with a linear map in the place of each block removed"
    on = f"measured on {choice['images']} images at {choice['levels']} noise levels each"
    return "\n".join([tables.table(rows), f"error of the student {choice['student_error']:.4g}{after}", on, ""])


def _table(record: dict[str, Any]) -> str:
    parameters, macs, init = record["parameters"], record["macs"], record["init"]
    rows: list[tuple[str, ...]] = [("", "parameters", "multiply-adds")]
    rows += [(who, _short(parameters[who]), _short(macs[who])) for who in ("teacher", "student")]
    rows += [("kept", *(f"{count['student'] / count['teacher']:.1%}" for count in (parameters, macs)))]
    lines = [f"{who:8}{size:>12}{work:>15}" for who, size, work in rows]
    parts = ", ".join(f"{_short(init[part])} {part}" for part in ("copied", "sliced", "fresh"))
    return "\n".join([*lines, f"weights: {parts}"])


def _short(count: int) -> str:
    """A count in three significant places and more: 859.5 M.

    >>> _short(859_520_964), _short(0), _short(1234)
    ('859.5 M', '0', '1.2 k')
    """
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size and not (unit == "G" and count < 10 * size):
            return f"{count / size:.1f} {unit}"
    return str(count)
