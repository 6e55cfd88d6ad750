"""``python -m tests.faults``: attack the library with a seeded attacker, and print what was attempted and survived.

The seed determines what attack number ``n`` does, but not in which state a kill finds a process: kills come after a
time by the clock. Verdicts are appended to files in ``OUT``: a campaign that was stopped goes on where it was.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import click

from tests.faults import campaign, verdict


@click.command()
@click.option("--count", default=2000, show_default=True, help="Number of attacks.")
@click.option("--seed", default=0, show_default=True, help="Seed of the attacker.")
@click.option("--jobs", default=os.cpu_count(), show_default=True, help="Number of processes.")
@click.option(
    "--out", default="attacks", show_default=True, type=click.Path(path_type=Path), help="Folder of the work."
)
def main(count: int, seed: int, jobs: int, out: Path) -> None:
    """Attack the library and print a table; exit code 1 if it did not survive every attack."""
    out = out.absolute() / f"seed-{seed}"
    out.mkdir(parents=True, exist_ok=True)
    done = {row["number"] for row in campaign.verdicts(out)}
    left = [number for number in range(count) if number not in done]
    context, work = multiprocessing.get_context("spawn"), campaign.work
    workers = [context.Process(target=work, args=(out, seed, left[place::jobs], place)) for place in range(jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    rows = [row for row in campaign.verdicts(out) if isinstance(row["number"], int) and row["number"] < count]
    click.echo(f"seed {seed}, {len(rows)} attacks\n\n{campaign.table(rows)}")
    lost = [row for row in rows if row["outcome"] not in verdict.SURVIVED]
    for row in lost:
        click.echo(f"attack {row['number']}, {row['attack']}: {row['outcome']}: {row['detail']}", err=True)
    for kind in (weak := campaign.trivial(rows)):
        click.echo(f"{kind}: no attempt shows that work goes on", err=True)
    sys.exit(1 if lost or weak or len(rows) < count else 0)


if __name__ == "__main__":
    main()
