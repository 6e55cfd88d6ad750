"""``aria prune``: a smaller student from a teacher's UNet or transformer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from aria.cli.errors import Refusal, refusals


@click.command()
@click.option("--pretrained_model_name_or_path", "teacher", required=True, metavar="T",
              help="The teacher: a pipeline's folder, or the folder of its UNet or transformer.")  # fmt: skip
@click.option("--output_dir", "output", required=True, type=click.Path(path_type=Path), metavar="S",
              help="The student's folder; must be absent or empty.")  # fmt: skip
@click.option("--preset", metavar="NAME",
              help="bk-base, bk-small or bk-tiny: the students of BK-SDM. Of a transformer half, third or quarter of "
                   "its blocks, evenly from the first to the last.")  # fmt: skip
@click.option("--block_map", type=click.Path(path_type=Path), metavar="FILE",
              help="A JSON or YAML file that says which blocks of a UNet stay.")  # fmt: skip
@click.option("--blocks", metavar="N,N,…", help="The blocks of a transformer that stay, counted from 0.")
@click.option("--width", type=float, metavar="FACTOR",
              help="Scale the width of every stage of a UNet, or the heads of a transformer, e.g. 0.75.")  # fmt: skip
@click.option("--block_out_channels", "channels", metavar="C,C,…", help="The width of every stage that stays.")
@click.option("--num_attention_heads", "heads", type=int, metavar="H", help="The heads of a transformer.")
@click.option("--attention_head_dim", "head_width", type=int, metavar="D", help="The width of each of them.")
@click.option("--init", default="slice", show_default=True, metavar="HOW",
              help="slice: copy matching weights, cut wider ones; copy: only matching ones; fresh: none.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="For the weights that are drawn afresh.")
@click.option("--overwrite", is_flag=True, help="Replace a student that is already in the folder.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of the table.")
def command(
    teacher: str,
    output: Path,
    preset: str | None,
    block_map: Path | None,
    blocks: str | None,
    width: float | None,
    channels: str | None,
    heads: int | None,
    head_width: int | None,
    init: str,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make a smaller student from a teacher's UNet or transformer: fewer blocks, narrower ones, or both.

    The student is a plain diffusers model folder. Its student.json says where it comes from, how large it is and which
    of its modules correspond to the teacher's; inheritance.json says where each of its weights comes from.
    """
    if {preset, block_map, blocks, width, channels, heads, head_width} == {None}:
        raise Refusal(
            "say what to remove: --preset, --block_map, --width or --block_out_channels; of a transformer --preset, "
            "--blocks, --width, --num_attention_heads or --attention_head_dim"
        )
    from aria.distill.students import prune

    with refusals(output):
        record = prune(
            teacher,
            output,
            preset=preset,
            block_map=None if block_map is None else _read_map(block_map),
            width=width,
            block_out_channels=_numbers("--block_out_channels", channels, "240,480,960,960"),
            blocks=_numbers("--blocks", blocks, "0,2,5"),
            num_attention_heads=heads,
            attention_head_dim=head_width,
            init=init,  # type: ignore[arg-type]  # checked there, with what is allowed
            seed=seed,
            overwrite=overwrite,
        )
    click.echo(json.dumps(record) if as_json else _table(record))


def _read_map(path: Path) -> Any:
    """The map in a JSON or YAML file: JSON is YAML."""
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
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
