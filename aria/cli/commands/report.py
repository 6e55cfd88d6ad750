"""``aria report``: a run's folder as one page."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from aria import whole_file
from aria.cli.errors import Refusal, refusals


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--output", default="report.html", show_default=True, type=click.Path(path_type=Path), metavar="FILE")
@click.option("--partitioner", "spec", metavar="SPEC", help="The run's, if it is a class of your own: file.py:Class.")
def command(run: Path, output: Path, spec: str | None) -> None:
    """Write what happened in RUN, an output folder of `aria distill`, to one HTML file.

    Losses, what was spent on which regions, how far student and teacher still differ there, validation grids and
    settings. The run may still be going on or have been killed. The page runs no script and needs no network.
    """
    if find_spec("matplotlib") is None:
        raise Refusal("matplotlib is needed for the figures: pip install 'aria-distill[sim]'")
    with refusals(output):
        from aria import registry
        from aria.distill.evaluation.report import Record, page
        from aria.files import write_text

        whole_file.check_writable(output)
        if output.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"--output must be an .html file, got {output}")
        if spec is not None:
            registry.partitioner(spec)  # makes its kind of partition known
        write_text(output, page(Record(run)))
    click.echo(output)
