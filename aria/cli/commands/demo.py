"""``aria demo``: students of one teacher of real pictures, side by side."""

from __future__ import annotations

from pathlib import Path

import click

from aria.cli import tables
from aria.cli.errors import refusals
from aria.progress import bar


@click.command()
@click.option("--output_dir", "out", default="demo", show_default=True, type=click.Path(path_type=Path), metavar="DIR",
              help="Folder of the students and the page.")  # fmt: skip
@click.option("--steps", default=150, show_default=True, type=click.IntRange(1),
              help="Number of training steps of each student.")  # fmt: skip
def command(out: Path, steps: int) -> None:
    """Distil three students of a teacher that draws emoji, and show them beside it. Takes two minutes on two cores.

    The students differ only in where their steps are spent: random conditioning, a static mix, and ARIA's defaults. The
    page DIR/report.html shows what they make of captions without pictures, how far they are from the teacher by group,
    and which regions ARIA trained on. An interrupted demo goes on where it was.
    """
    with refusals(out):
        if out.exists() and not out.is_dir():
            raise ValueError(f"--output_dir must be a folder, {out} is a file")
        from aria.bench import demo
        from aria.bench.process_runner import CellFailed

        try:
            result = demo.run(out, steps=steps, shown=bar)
        except CellFailed as error:
            raise click.ClickException(str(error)) from error
    tables.echo(demo.table(result))
    tables.echo(f"\n{out / demo.PAGE}")
