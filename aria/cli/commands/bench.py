"""``aria bench``: ways to allocate, compared in pairs on distillations whose teacher is exact."""

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

from aria import whole_file
from aria.cli.command_line import Mistake, bar, mistakes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aria.bench.arms import Arm
    from aria.bench.compare import Comparison, Record
    from aria.bench.queue import Queue
    from aria.distill.data.cache import Bar

NEEDED = ("diffusers", "scipy", "matplotlib", "sklearn")
PLOTS = (".png", ".svg", ".pdf")
QUICK_SEEDS, SEEDS = "3", "8"


@click.command()
@click.option("--task", "spec", metavar="SPEC", help="What is distilled: default, homogeneous, unskewed, unlearnable, "
              "long, wide, unet, or a spec such as digits or 'concepts(skew=0)'.  [default: default]")  # fmt: skip
@click.option("--variants", multiple=True, metavar="ARM", help="An arm of your own: an allocator's spec, "
              "'greedy.py:Greedy(top=3)', or 'name: allocator=…; tracker=…; floor=…'; may be repeated.")  # fmt: skip
@click.option("--arms", "standard", metavar="A,B,…", help="The standard arms to run, rc always among them.  "
              "[default: all]")  # fmt: skip
@click.option("--no-standard", is_flag=True, help="Of the standard arms rc alone.")
@click.option("--lookahead", is_flag=True, help="Greedy lookahead over all arms as well: what a rule could gain that "
              "knew the worth of each arm's next steps.")  # fmt: skip
@click.option("--baseline", default="rc", show_default=True, metavar="ARM", help="The arm that changes are told "
              "against.")  # fmt: skip
@click.option("--jobs", default=1, show_default=True, help="Runs at a time, of tasks that take a process for each.")
@click.option("--device", metavar="cpu|cuda", help="Where models compute.  [default: cuda where there is one, else "
              "cpu]")  # fmt: skip
@click.option("--setting", default="rc", show_default=True, metavar="rc|tuned", help="What all arms share: random "
              "conditioning as published, or a larger random share and velocity weighting.")  # fmt: skip
@click.option("--seeds", metavar="N|A-B", help="N seeds from 0 on, or those from A to B.  [default: 8]")
@click.option("--steps", type=int, help="Length of every run.  [default: the task's]")
@click.option("--out", default="aria-bench", show_default=True, type=click.Path(path_type=Path), metavar="DIR",
              help="Runs are kept there: a killed comparison goes on, what has ended is not redone.")  # fmt: skip
@click.option("--json", "to", metavar="FILE", help="The result once more in a file, or - to print it instead of the "
              "table.")  # fmt: skip
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Curves and head against tail as "
              "PNG, SVG or PDF.")  # fmt: skip
@click.option("--quick", is_flag=True, help="A smaller world, 800 steps and 3 seeds, unless these are given.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(spec: str | None, seeds: str | None, steps: int | None, quick: bool, out: Path, to: str | None,
            plot: Path | None, baseline: str, jobs: int, quiet: bool, **settings: Any) -> None:  # fmt: skip
    """Compare ways to allocate: every arm distils the same worlds from the same start with the same numbers.

    Prints by how many per cent each arm changes the generation gap against random conditioning (rc), by group of
    conditions, and writes DIR/report.html and DIR/results.json.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise Mistake(f"{', '.join(missing)} needed: pip install 'aria-distill[distill,sim]'")
    with mistakes(out):
        from aria.distill.data.cache import silent

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
    """What the options ask for: runs in memory, all of a few seeds at once, or runs of the engine one by one."""
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
    """The standard arms asked for in their own order, rc among them, and the user's; unless told, the oracle is one
    only where discrepancies are known exactly."""
    from aria.bench import arms
    from aria.bench.table import BASELINE, ORACLE

    known = [arm.name for arm in arms.STANDARD if exact or arm.name != ORACLE]
    wanted = known if standard is None else [name.strip() for name in standard.split(",")]
    for name in wanted:
        _known("standard arm", name, known)
    chosen = [arm for arm in arms.STANDARD if arm.name in (*wanted, BASELINE)]
    return [*chosen, *map(arms.arm, variants)]


def _seeds(text: str) -> range:
    """``N`` seeds from 0 on, or those from ``A`` to ``B``."""
    told = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    seeds = range(0)
    if told is not None:
        seeds = range(int(told[1])) if told[2] is None else range(int(told[1]), int(told[2]) + 1)
    if not seeds:
        raise ValueError(f"--seeds must be a number of seeds such as 8, or a range such as 0-7, got {text!r}")
    return seeds


def _known(what: str, name: str, known: list[str]) -> None:
    """Refuse a name that is not among those known, and say which one was nearly given."""
    from aria import registry

    if name not in known:
        raise ValueError(f"unknown {what} {name!r}{registry.hint(name, known)}; there are: {', '.join(known)}")


def _compare(
    comparison: Comparison | Queue, out: Path, typed: str, jobs: int, baseline: str, shown: Bar
) -> dict[str, Any]:
    """Run what is missing, then write the result and its page."""
    from aria import files
    from aria.bench import report, result

    out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    records = _run(comparison, out / "cells", jobs, shown)
    seconds = time.monotonic() - begun
    told = result.collect(comparison, records, command=typed, seconds=seconds, baseline=baseline)
    files.write_text(out / "results.json", json.dumps(told, indent=1) + "\n")
    files.write_text(out / "report.html", report.page(told))
    return told


def _run(comparison: Comparison | Queue, folder: Path, jobs: int, shown: Bar) -> list[Record]:
    """The records of all cells: tasks in memory are trained as stacked models, tasks on disk by the engine."""
    from aria.bench.queue import CellFailed, Queue

    if isinstance(comparison, Queue):
        try:
            return comparison.run(folder, jobs=jobs, bar=shown)
        except CellFailed as error:
            raise click.ClickException(str(error)) from error
    with shown("steps") as progress:
        return comparison.run(folder, progress=progress)


def _writable(out: Path, to: str | None, plot: Path | None) -> None:
    """Refuse what cannot be written before anything is trained."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, {out} is a file")
    if plot is not None and plot.suffix.lower() not in PLOTS:
        raise ValueError(f"--plot must end in {' or '.join(PLOTS)}, got {str(plot)!r}")
    for path in filter(None, (Path(to) if to not in (None, "-") else None, plot)):
        whole_file.check_writable(path)


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
