"""Candidates for the default allocation, compared on real pictures and on seeds that are only used for choosing.

    python -m benchmarks.rules --rows 'unet-v, strong, 1500' --seeds 5 --out rules
    python -m benchmarks.rules --out rules --json benchmarks/results/rules-cpu.json --no_run

The first command may run several times at once: each takes runs that no other works on. The second shows all rows of
the folder that are complete. Changes are relative to random conditioning with the same seed, in %: mean ± standard
error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import click

from aria import files
from aria.bench import device, records
from aria.bench.arms import Arm
from aria.bench.experiment import Experiment
from aria.bench.matrix import tasks
from aria.bench.records import Record
from aria.bench.result import machine
from aria.bench.running import run_experiment, runner_of
from aria.bench.static_search import GRID
from aria.bench.table import signed
from aria.progress import bar, silent

RC = Arm("rc")
WEIGHTED = next(arm for arm in GRID if arm.name == "exponential(5.0), conditions, on-policy 0")
"""Random conditioning with velocity weighting of the noise levels, which all candidates have."""
MIX = next(arm for arm in GRID if arm.name == "exponential(1.0), conditions, on-policy 0")
"""Captions are also replaced more often."""
TRACKED = replace(MIX, name="tracked", allocator="proportional")
LEVELS = "product(labels('cell'), bins('timestep', 0, 1000, 5))"
CANDIDATES = (
    WEIGHTED,
    MIX,
    TRACKED,
    replace(TRACKED, name="tracked, regions x noise levels", partitioner=LEVELS),
    replace(TRACKED, name="tracked, half of the draws", floor=0.5),
    replace(TRACKED, name="tracked, square root of the mass", allocator="proportional(base=0.5)"),
    replace(TRACKED, name="tracked, power 2", allocator="proportional(power=2)"),
    replace(TRACKED, name="tracked, power 3", allocator="proportional(power=3)"),
    replace(TRACKED, name="tracked, power 4", allocator="proportional(power=4)"),
    replace(TRACKED, name="tracked, levels, power 2", allocator="proportional(power=2)", partitioner=LEVELS),
    replace(TRACKED, name="tracked, power 2, half of the draws", allocator="proportional(power=2)", floor=0.5),
    replace(TRACKED, name="tracked, exponential(5.0), on-policy .375", replacement=None, on_policy=0.375),
)
"""Captions of a region are equally likely in all of them."""
ROWS = ("unet-epsilon, strong, 1500", "unet-v, strong, 1500", "cross-attention, strong, 1500")


SHOWN = ("uniform", "unseen", "tail")


@click.command()
@click.option(
    "--rows", multiple=True, default=ROWS, show_default=True, help="Rows of the matrix emoji; may be repeated."
)
@click.option("--seeds", type=click.IntRange(2, 10), default=5, show_default=True, help="Number of seeds, from 0.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the runs.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="File for the numbers.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Number of runs at a time.")
@click.option("--no_run", is_flag=True, help="Compute nothing: show the rows that are complete.")
def main(rows: Sequence[str], seeds: int, out: Path, target: Path | None, jobs: int, no_run: bool) -> None:
    """Compare candidates for the default allocation on the seeds 0, 1, …: none of them is used by the matrix."""
    arms = {arm.name: asdict(arm) for arm in CANDIDATES}
    result: dict[str, Any] = {"machine": machine(device.chosen(None)), "seeds": seeds, "arms": arms, "rows": {}}
    for label in rows:
        experiment = Experiment(tasks("emoji", label)[label], (RC, *CANDIDATES), range(seeds), exams=1)
        if no_run and any(not records.file(out, cell.name).is_file() for cell in runner_of(experiment).cells()):
            click.echo(f"{label}: not complete", err=True)
            continue
        found = run_experiment(experiment, out, jobs=jobs, bar=silent if no_run else bar)
        result["rows"][label] = changes(found)
    click.echo(table(result))
    if target is not None:
        files.write_json(target, result)


def table(result: Mapping[str, Any]) -> str:
    """In Markdown: what every candidate changes in each row, for some groups."""
    rows = result["rows"]
    heads = [f"{label.split(',')[0]}: {group}" for label in rows for group in SHOWN]
    lines = ["| candidate | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    for name in result["arms"]:
        cells = [rows[label][name][group] for label in rows for group in SHOWN]
        shown = [f"{signed(cell['mean'])}±{cell['error']:.1f}".replace("-", "−") for cell in cells]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def changes(found: Sequence[Record]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean change of each candidate's final gap in % and its standard error, by group."""
    last = max(record["step"] for record in found)
    final = {
        (record["arm"], record["group"], record["seed"]): math.log(record["value"])
        for record in found
        if record["metric"] == "gap" and record["step"] == last
    }
    result: dict[str, dict[str, dict[str, float]]] = {}
    for arm, group, _ in final:
        pairs = [
            100 * math.expm1(value - final["rc", group, seed])
            for (name, which, seed), value in final.items()
            if (name, which) == (arm, group)
        ]
        if arm != "rc":
            error = stdev(pairs) / len(pairs) ** 0.5
            result.setdefault(arm, {})[group] = {"mean": mean(pairs), "error": error}
    return result


if __name__ == "__main__":
    main()
