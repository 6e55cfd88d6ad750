"""``aria quantise``: a finished student with 8-bit weights, and what that costs in each region."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from aria.cli.errors import refusals
from aria.progress import bar

WORST = 5
"""Regions in the table; JSON has all."""


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--output_dir", "output", type=click.Path(path_type=Path), metavar="Q",
              help="The quantised model's folder; by default RUN/quantised, where `aria report` looks.")  # fmt: skip
@click.option("--pretrained_model_name_or_path", "teacher", metavar="T", help="The teacher, if it is elsewhere now.")
@click.option("--partitioner", "spec", metavar="SPEC",
              help="The run's, if it is a class of your own: file.py:Class.")  # fmt: skip
@click.option("--samples", default=512, show_default=True, type=click.IntRange(1, 10**9),
              help="Drawn evenly over the run's regions, to measure on.")  # fmt: skip
@click.option("--batch_size", default=16, show_default=True, type=click.IntRange(1, 1 << 16))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of the table.")
def command(run: Path, output: Path | None, spec: str | None, as_json: bool, **settings: Any) -> None:
    """Turn the weights of a finished run's student into 8-bit integers and measure what changes.

    RUN is an output folder of `aria distill`; nothing in it is changed. The quantised model is a quarter as large. It
    is opened by aria.distill.evaluation.quantise.open_quantised, not by diffusers alone.
    """
    target = output or run / "quantised"
    with refusals(target):
        from aria import registry
        from aria.distill.evaluation.quantise import quantise_run, read_record

        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            read_record(target)  # an earlier quantised model is replaced, nothing else is
        if spec is not None:
            registry.partitioner(spec)  # makes its kind of partition known
        record = quantise_run(run, target, bar=bar, **settings)
    click.echo(json.dumps(record) if as_json else _table(record))


def _table(record: dict[str, Any]) -> str:
    size, gap = record["bytes"], record["discrepancy"]
    worst = sorted(record["regions"], key=lambda row: row["before"] - row["after"])[:WORST]
    lines = [f"{'':14}{'before':>12}{'after':>12}"]
    lines.append(f"{'megabytes':14}{size['before'] / 1e6:>12.2f}{size['after'] / 1e6:>12.2f}")
    lines.append(f"{'discrepancy':14}{gap['before']:>12.4g}{gap['after']:>12.4g}")
    lines.append(f"the {len(worst)} regions that lose most:")
    lines += [f"  region {row['region']:<5}{row['before']:>12.4g}{row['after']:>12.4g}" for row in worst]
    return "\n".join([*lines, f"written to {record['output']}"])
