"""``aria verify-run``: whether the files of a run are still what was written."""

from __future__ import annotations

from pathlib import Path

import click

from aria.cli import tables
from aria.cli.errors import refusals
from aria.distill.settings import checks


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def command(run: Path) -> None:
    """Compare every file of RUN, an output folder of `aria distill`, with the hash that was written with it.

    That is every checkpoint, the partition, the finished pipeline and the cache. Exits with 0 if all of them are whole,
    1 if one is damaged or the cache is not where the run had it, 2 if the run is still going on.

    Not compared, since they have no hashes: config.json, partition.json and cache.json, logs, images in samples,
    reports, the model card, and quantised models.
    """
    with refusals(run):
        checks.check_folder(run, "run")
        from aria.distill.runs.verify import verify

        found = list(verify(run))
        if not found:
            raise ValueError(f"{run} has no checkpoint, partition, pipeline or cache of a run")
    for part in found:
        tables.echo(f"{part.name}: {part.fault or 'whole'}")
    if any(part.fault for part in found):
        raise click.exceptions.Exit(1)
