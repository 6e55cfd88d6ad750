"""``aria quantise``: a finished student with 8-bit weights, and what that costs in each region."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aria.cli import options, tables
from aria.cli.errors import refusals
from aria.distill.settings import checks
from aria.progress import bar

WORST = 5
"""Regions in the table; JSON has all."""


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--output_dir", "output", type=click.Path(path_type=Path), metavar="Q",
              help="Folder of the quantised model; by default RUN/quantised, where `aria report` finds it.")
@options.teacher(required=False, help="The teacher; needed only if it has been moved since the run.")
@options.own_partitioner
@click.option("--samples", default=512, show_default=True, type=click.IntRange(1, 10**9),
              help="Number of samples to measure on, drawn evenly over the regions of the run.")  # fmt: skip
@click.option("--batch_size", default=16, show_default=True, type=click.IntRange(1, 1 << 16),
              help="Number of samples per forward pass.")  # fmt: skip
@options.seed
@options.as_json
def command(run: Path, output: Path | None, spec: str | None, as_json: bool, **settings: Any) -> None:
    """Store the weights of a finished run's student as 8-bit integers and measure what that costs.

    RUN is the output folder of `aria distill`; nothing in it is changed. The quantised model is a quarter of the size.
    Open it with aria.distill.open_quantised; diffusers alone cannot.
    """
    target = output or run / "quantised"
    with refusals(target):
        checks.check_run(run)
        if (teacher := settings["teacher"]) is not None:
            checks.check_pipeline(teacher)
        from aria import registry
        from aria.distill.evaluation.quantise import quantise_run, read_record

        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            read_record(target)  # an earlier quantised model is replaced, nothing else is
        if spec is not None:
            registry.partitioner(spec)  # registers its kind of partition
        record = quantise_run(run, target, bar=bar, **settings)
    tables.echo_json(record) if as_json else tables.echo(_table(record))


def _table(record: dict[str, Any]) -> str:
    size, gap = record["bytes"], record["discrepancy"]
    worst = sorted(record["regions"], key=lambda row: row["before"] - row["after"])[:WORST]
    lines = [f"{'':14}{'before':>12}{'after':>12}"]
    lines.append(f"{'megabytes':14}{size['before'] / 1e6:>12.2f}{size['after'] / 1e6:>12.2f}")
    lines.append(f"{'discrepancy':14}{gap['before']:>12.4g}{gap['after']:>12.4g}")
    lines.append(f"the {len(worst)} regions that lose most:")
    lines += [f"  region {row['region']:<5}{row['before']:>12.4g}{row['after']:>12.4g}" for row in worst]
    return "\n".join([*lines, f"written to {record['output']}"])
