"""``aria report``: a run as one HTML page."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from aria import files
from aria.cli import options, tables
from aria.cli.errors import Refusal, refusals
from aria.distill.settings import checks


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--output", default="report.html", show_default=True, type=click.Path(path_type=Path), metavar="FILE",
              help="The HTML file to write.")  # fmt: skip
@options.own_partitioner
def command(run: Path, output: Path, spec: str | None) -> None:
    """Write a report on RUN, an output folder of `aria distill`, to one HTML file.

    It shows the losses, how the steps were spread over the regions, how far student and teacher still differ in each,
    what allocating effort over them can gain at most, validation images and settings. The run may still be going on, or
    have been killed. The page contains no scripts and loads nothing from the network.
    """
    if find_spec("matplotlib") is None:
        raise Refusal("matplotlib is needed for the figures: pip install 'aria-distill[sim]'")
    with refusals(output):
        files.check_writable(output)
        if output.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"--output must be an .html file, got {output}")
        checks.check_run(run)
        from aria import registry
        from aria.distill.evaluation.report import Record, page

        if spec is not None:
            registry.partitioner(spec)  # registers its kind of partition
        files.write_text(output, page(Record(run), _worth(run)))
    tables.echo(output)


def _worth(run: Path) -> str:
    """What ``aria-sim worth --from-log`` says, or why it cannot say it."""
    from theory.run_worth import UNKNOWN, of_run

    try:
        worth, notes = of_run(run)
    except UNKNOWN as error:
        return f"not known: {error}"
    return "; ".join([worth.sentence, *notes])
