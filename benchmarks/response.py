"""How the gap of frequent and of rare captions responds to the effort that goes to them.

    python -m benchmarks.rules --rows 'unet-v, strong, 1500' --seeds 2 --out rules     # first: the runs that are read
    python -m benchmarks.response --runs rules --json benchmarks/results/response-cpu.json

Candidates of ``benchmarks/rules.py`` that differ in nothing but where effort goes among regions spend different shares
of it on frequent, middle and rare cells. For each of these groups, the *elasticity* is the slope of the logarithm of
its gap over that of its share of the draws, with a level for each seed, changed in sign: .5 means that 10 % more draws
make the gap 5 % smaller. It includes what the group's cells teach each other.

``at best`` is the change at the allocation over the three groups that these elasticities make optimal (T25).

From elasticities, from the shares of ``aria``'s rule, and from the gaps of the best static mix in the matrix follows
what ``aria`` should change beside that mix. ``measured`` is what it does change there, on seeds that have no part in
the elasticities.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import click
import numpy as np

from aria import files
from aria.bench import device, records
from aria.bench.arms import ARIA
from aria.bench.experiment import Experiment
from aria.bench.matrix import STATIC, tasks
from aria.bench.result import machine
from aria.bench.running import runner_of
from aria.bench.table import signed
from aria.run_log import DISCREPANCIES
from aria.tasks.emoji.split import FREQUENT
from aria.tasks.emoji.task import Emoji
from benchmarks import matrix_table
from benchmarks.matrix_table import line
from benchmarks.rules import CANDIDATES, LEVELS, TRACKED
from theory import bounds

ARMS = tuple(arm for arm in CANDIDATES if arm.replacement == TRACKED.replacement and arm.on_policy == 0
             and arm.partitioner != LEVELS and arm.allocator != "pool")  # fmt: skip
"""Candidates that differ in their allocation over the same regions alone."""
ROWS = ("unet-epsilon, strong, 1500", "unet-v, strong, 1500")
"""Rows of which the candidates were compared."""


@click.command()
@click.option("--runs", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of benchmarks.rules.")
@click.option("--rows", multiple=True, default=ROWS, show_default=True, help="Rows of the matrix; may be repeated.")
@click.option("--seeds", type=click.IntRange(2, 10), default=2, show_default=True, help="Number of seeds, from 0.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="File for the numbers.")
def main(runs: Path, rows: Sequence[str], seeds: int, target: Path | None) -> None:
    """Elasticities of groups, and what they predict of the matrix."""
    result: dict[str, Any] = {"machine": machine(device.chosen("cpu")), "seeds": seeds, "rows": {}}
    for label in rows:
        result["rows"][label] = of_row(label, runs, seeds)
    click.echo(table(result))
    if target is not None:
        files.write_json(target, result)


def of_row(label: str, runs: Path, seeds: int) -> dict[str, Any]:
    """Shares, elasticities, and the predicted and measured change of ``aria`` beside the static mix."""
    task = tasks("emoji", label)[label]
    assert isinstance(task, Emoji)
    gaps: dict[tuple[str, int], dict[str, float]] = {}
    shares: dict[tuple[str, int], dict[str, float]] = {}
    for cell in runner_of(Experiment(task, ARMS, range(seeds), exams=1)).cells():
        gaps[cell.arm, cell.seed] = final(records.read(records.file(runs, cell.name), cell.arm, cell.seed))
        shares[cell.arm, cell.seed] = effort(runs / "cells" / cell.name / "run" / DISCREPANCIES, task)
    own = next(arm.name for arm in ARMS if arm.allocator == ARIA.allocator and arm.floor == ARIA.floor)
    compared = matrix_table.rows()[label]["records"]
    static, aria = _means(compared, STATIC), _means(compared, ARIA.name)
    mass = {group: float(task.split.frequent.eq(place).double().mean()) for place, group in enumerate(FREQUENT)}
    groups, changed = {}, 0.0
    for group in FREQUENT:
        x = np.array([math.log(shares[run][group]) for run in gaps])
        y = np.array([math.log(gaps[run][group]) for run in gaps])
        slope, error = elasticity(x, y, np.array([seed for _, seed in gaps]))
        share = mean(shares[own, seed][group] for seed in range(seeds))
        change = (share / mass[group]) ** -slope - 1
        changed += mass[group] * static[group] * change
        groups[group] = {
            "mass": mass[group], "share": share, "elasticity": slope, "error": error,
            "predicted": 100 * change, "measured": 100 * (aria[group] / static[group] - 1),
        }  # fmt: skip
    whole = sum(mass[group] * static[group] for group in FREQUENT)
    measured = sum(mass[group] * (aria[group] - static[group]) for group in FREQUENT)
    levels = [[group[key] for group in groups.values()] for key in ("mass", "elasticity")]
    gain = bounds.worth(levels[0], [static[group] for group in FREQUENT], exponent=levels[1])
    changes = {"best": -float(gain), "predicted": changed / whole, "measured": measured / whole}
    return {"groups": groups, **{name: 100 * change for name, change in changes.items()}}


def elasticity(x: np.ndarray, y: np.ndarray, seed: np.ndarray) -> tuple[float, float]:
    """Minus the slope of ``y`` over ``x`` within seeds, and its standard error.

    >>> x, seed = np.log([0.4, 0.5, 0.6, 0.4, 0.5, 0.6]), np.array([0, 0, 0, 1, 1, 1])
    >>> value, error = elasticity(x, seed - 0.5 * x, seed)
    >>> round(value, 3), error < 1e-9
    (0.5, True)
    """
    for one in set(seed.tolist()):
        x = np.where(seed == one, x - x[seed == one].mean(), x)
        y = np.where(seed == one, y - y[seed == one].mean(), y)
    slope = float((x * y).sum() / (x * x).sum())
    freedom = len(x) - len(set(seed.tolist())) - 1
    return -slope, math.sqrt(float(((y - slope * x) ** 2).sum()) / freedom / float((x * x).sum()))


def effort(log: Path, task: Emoji) -> dict[str, float]:
    """Share of a run's draws in each group of cells."""
    drawn: Counter[int] = Counter()
    for text in log.read_text().splitlines():
        visit = json.loads(text)
        drawn[visit["region"]] += visit["n"]
    group = dict(zip(task.split.cell, task.split.frequent.tolist(), strict=True))
    cells = sorted(group)  # the regions of labels('cell'), in their order
    total = sum(drawn.values())
    count = Counter({place: 0 for place in range(len(FREQUENT))})
    for region, n in drawn.items():
        count[group[cells[region]]] += n
    return {name: count[place] / total for place, name in enumerate(FREQUENT)}


def final(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The gaps of a run's last evaluation by group."""
    last = max(record["step"] for record in found)
    return {r["group"]: r["value"] for r in found if r["metric"] == "gap" and r["step"] == last}


def _means(found: Sequence[Mapping[str, Any]], arm: str) -> dict[str, float]:
    """Geometric means over seeds of an arm's last gaps."""
    seeds = sorted({record["seed"] for record in found})
    ends = [final([r for r in found if r["arm"] == arm and r["seed"] == seed]) for seed in seeds]
    return {group: math.exp(mean(math.log(end[group]) for end in ends)) for group in ends[0]}


def table(result: Mapping[str, Any]) -> str:
    """In Markdown: a line for each group of each row, and one for all captions."""
    heads = ["teacher", "group", "share of captions", "of draws", "elasticity", "predicted", "measured"]
    lines = [line(heads), line(["---"] * len(heads))]
    for label, row in result["rows"].items():
        for name, group in row["groups"].items():
            cells = [label.split(",")[0], name, f"{group['mass']:.2f}", f"{group['share']:.2f}"]
            cells += [f"{group['elasticity']:.2f}±{group['error']:.2f}"]
            lines.append(line([*cells, *(_change(group[key]) for key in ("predicted", "measured"))]))
        whole = [_change(row[key]) for key in ("predicted", "measured")]
        lines.append(line([label.split(",")[0], f"all (at best {_change(row['best'])})", "", "", "", *whole]))
    return "\n".join(lines)


def _change(percent: float) -> str:
    return signed(percent).replace("-", "−")



if __name__ == "__main__":
    main()
