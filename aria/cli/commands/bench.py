"""``aria bench``: allocation methods, compared seed by seed on small distillations."""

from __future__ import annotations

import json
import re
import shlex
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from aria import checks, files
from aria.cli import options
from aria.cli.errors import Refusal, refusals
from aria.progress import Bar, bar, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aria.bench.arms import Arm
    from aria.bench.compare import Comparison, Record
    from aria.bench.queue import Queue

NEEDED = ("diffusers", "scipy", "matplotlib", "sklearn")
QUICK_SEEDS, SEEDS = "3", "8"


@click.command()
@click.option("--task", "spec", metavar="SPEC",
              help="The task: default, homogeneous, unskewed, unlearnable, long, wide, unet, or a spec such as digits "
                   "or 'concepts(skew=0)'.  [default: default]")
@click.option("--variants", multiple=True, metavar="ARM",
              help="An arm of your own: the spec of an allocator, such as 'greedy.py:Greedy(top=3)', or 'name: "
                   "allocator=…; tracker=…; floor=…'; may be repeated.")
@click.option("--arms", "standard", metavar="A,B,…",
              help="The standard arms to run; rc (random conditioning) always runs.  [default: all]")
@click.option("--no-standard", is_flag=True, help="Run none of the standard arms except rc.")
@click.option("--lookahead", is_flag=True,
              help="Also run greedy lookahead, which tries every arm for the next steps and continues with the best: "
                   "an estimate of what a perfect rule could gain.")
@click.option("--baseline", default="rc", show_default=True, metavar="ARM",
              help="The arm that all others are compared with.")
@click.option("--jobs", default=1, show_default=True,
              help="Number of runs at a time, for tasks that need one process per run.")
@click.option("--device", metavar="cpu|cuda",
              help="Device on which the models run.  [default: cuda if available, else cpu]")
@click.option("--setting", default="rc", show_default=True, metavar="rc|tuned",
              help="Settings that all arms share: rc is random conditioning as published, tuned replaces more "
                   "conditions and uses velocity weighting.")
@click.option("--seeds", metavar="N|A-B",
              help="Number of seeds, counted from 0, or a range of them such as 0-7.  [default: 8]")
@click.option("--steps", type=int, help="Number of optimiser steps of every run.  [default: as the task defines]")
@click.option("--out", default="aria-bench", show_default=True, type=click.Path(path_type=Path), metavar="DIR",
              help="Folder of the results; finished runs in it are not repeated, so a killed comparison continues.")
@click.option("--json", "to", metavar="FILE",
              help="Also write the result as JSON to FILE, or with - print it instead of the table.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE",
              help="Draw learning curves, and frequent against rare conditions, to a PNG, SVG or PDF file.")
@click.option("--quick", is_flag=True, help="Use a smaller task, 800 steps and 3 seeds, except where given otherwise.")
@click.option("--quiet", is_flag=True, help="Show no progress bars.")
def command(spec: str | None, seeds: str | None, steps: int | None, quick: bool, out: Path, to: str | None,
            plot: Path | None, baseline: str, jobs: int, quiet: bool, **settings: Any) -> None:  # fmt: skip
    """Compare allocation methods: every arm distils the same task, from the same weights and with the same seeds.

    Prints the generation gap of each arm relative to random conditioning (rc) with the same seed (%), by group of
    conditions, and writes DIR/report.html and DIR/results.json.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise Refusal(f"{', '.join(missing)} needed: pip install 'aria-distill[distill,sim]'")
    with refusals(out):
        _writable(out, to, plot)
        comparison = _comparison(spec, seeds, steps, quick, **settings)
        _known("--baseline", baseline, [arm.name for arm in comparison.arms])
        shown = silent if quiet else bar
        result = _compare(comparison, out, _typed(click.get_current_context()), jobs, baseline, shown)
        from aria import files
        from aria.bench import figures, table

        if to not in (None, "-"):
            files.write_text(Path(str(to)), json.dumps(result, indent=1) + "\n")
        if plot is not None:
            figures.both(result).write(plot)
    if to == "-":
        click.echo(json.dumps(result, indent=1))
        return
    click.echo(table.text(result["table"], result["groups"]))
    click.echo(f"\n{table.caption(result)}")
    click.echo(f"\n{out / 'report.html'}\n{out / 'results.json'}")


def _comparison(
    spec: str | None, seeds: str | None, steps: int | None, quick: bool, *, variants: Sequence[str],
    standard: str | None, no_standard: bool, setting: str, lookahead: bool, device: str | None = None,
) -> Comparison | Queue:  # fmt: skip
    """The experiment that the options describe: runs in memory, many at once, or runs of the engine one by one."""
    from aria.bench import device as devices
    from aria.bench.arms import SETTINGS
    from aria.bench.compare import Comparison
    from aria.bench.queue import Queue
    from aria.bench.stacked import Recipe
    from aria.tasks import presets
    from aria.tasks.on_disk import OnDisk

    _known("--setting", setting, list(SETTINGS))
    if no_standard and standard is not None:
        raise ValueError("--no-standard and --arms contradict each other: give one of them")
    where = devices.chosen(device)
    task = presets.QUICK if quick and spec is None else presets.task(spec or "default")
    chosen = _arms("rc" if no_standard else standard, variants, exact=not isinstance(task, OnDisk))
    shared = chosen, _seeds(seeds or (QUICK_SEEDS if quick else SEEDS)), SETTINGS[setting]
    if isinstance(task, OnDisk):
        if lookahead:
            raise ValueError("--lookahead is for tasks in memory, whose runs are trained side by side")
        length = steps if steps is not None else presets.QUICK.steps if quick else None
        return Queue(task, *shared, {} if length is None else {"max_train_steps": length}, device=where)
    length = steps if steps is not None else min(task.steps, presets.QUICK.steps) if quick else task.steps
    return Comparison(task, *shared, replace(Recipe(), steps=length), lookahead=lookahead, device=where)


def _arms(standard: str | None, variants: Sequence[str], *, exact: bool) -> list[Arm]:
    """The chosen standard arms in their usual order, with rc, and then the user's; by default the oracle is one of them
    only if the task computes discrepancies exactly."""
    from aria.bench import arms
    from aria.bench.table import BASELINE, ORACLE

    known = [arm.name for arm in arms.STANDARD if exact or arm.name != ORACLE]
    wanted = known if standard is None else [name.strip() for name in standard.split(",")]
    for name in wanted:
        _known("standard arm", name, known)
    chosen = [arm for arm in arms.STANDARD if arm.name in (*wanted, BASELINE)]
    return [*chosen, *map(arms.arm, variants)]


def _seeds(text: str) -> range:
    """The seeds that ``8`` (0 to 7) or ``2-5`` means."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    seeds = range(0)
    if match is not None:
        seeds = range(int(match[1])) if match[2] is None else range(int(match[1]), int(match[2]) + 1)
    if not seeds:
        raise ValueError(f"--seeds must be a number of seeds such as 8, or a range such as 0-7, got {text!r}")
    return seeds


def _known(what: str, name: str, known: list[str]) -> None:
    """Refuse an unknown name, with a hint."""
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}{checks.hint(name, known)}; there are: {', '.join(known)}")


def _compare(
    comparison: Comparison | Queue, out: Path, typed: str, jobs: int, baseline: str, shown: Bar
) -> dict[str, Any]:
    """Run what is missing, then write the result and the report."""
    from aria import files
    from aria.bench import report, result

    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    records = _run(comparison, out / "cells", jobs, shown)
    seconds = time.monotonic() - started
    collected = result.collect(comparison, records, command=typed, seconds=seconds, baseline=baseline)
    files.write_text(out / "results.json", json.dumps(collected, indent=1) + "\n")
    files.write_text(out / "report.html", report.page(collected))
    return collected


def _run(comparison: Comparison | Queue, folder: Path, jobs: int, shown: Bar) -> list[Record]:
    """Run all cells: tasks in memory as stacked models, tasks on disk by the engine."""
    from aria.bench.queue import CellFailed, Queue

    if isinstance(comparison, Queue):
        try:
            return comparison.run(folder, jobs=jobs, bar=shown)
        except CellFailed as error:
            raise click.ClickException(str(error)) from error
    with shown("steps") as progress:
        return comparison.run(folder, progress=progress)


def _writable(out: Path, to: str | None, plot: Path | None) -> None:
    """Refuse output that cannot be written, before anything is trained."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, {out} is a file")
    if plot is not None and plot.suffix.lower() not in options.FIGURES:
        raise ValueError(f"--plot must end in {' or '.join(options.FIGURES)}, got {str(plot)!r}")
    for path in filter(None, (Path(to) if to not in (None, "-") else None, plot)):
        files.check_writable(path)


def _typed(context: click.Context) -> str:
    """The command as it was typed, quoted for a shell."""
    words = ["aria", "bench"]
    for parameter in context.command.params:
        name = str(parameter.name)
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        for one in value if isinstance(value, tuple) else (value,):
            words += [parameter.opts[0]] if one is True else [parameter.opts[0], str(one)]
    return shlex.join(words)
