"""``aria bench``: ways to allocate, compared in pairs on distillations from the same start with the same seeds."""

from __future__ import annotations

import json
import re
import shlex
import time
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from aria import checks, files, specs
from aria.bench.aria_arm import DIFFERENCES
from aria.bench.settings import MATRIX_NAMES, SETTINGS, STANDARD_NAMES
from aria.cli import options, tables
from aria.cli.errors import Refusal, refusals
from aria.progress import Bar, bar, silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aria.bench.arms import Arm
    from aria.bench.experiment import Experiment
    from aria.bench.records import Record

NEEDED = ("diffusers", "scipy", "matplotlib", "sklearn")
SEEDS, QUICK_SEEDS, QUICK_SEEDS_ON_DISK = "8", "3", "2"
QUICK_ARMS_ON_DISK = "rc,aria-static,aria"


@click.command(epilog=DIFFERENCES)
@click.option("--task", "spec", metavar="SPEC", help="Task to distil: default, homogeneous, unskewed, unlearnable, "
              "long, wide or unet; a spec such as digits or 'concepts(skew=0)'; or a task of your own, in memory or on "
              "disk, as 'file.py:Mine(size=3)'.  [default: default]")  # fmt: skip
@click.option("--matrix", "rows_of", metavar="NAME|FILE", help="Compare on many tasks instead of one: emoji (36 rows: "
              "teachers, students, settings), emoji-core (12 of them), or a JSON file of your own, {\"label\": "
              "\"task\", …}. The arms rc, aria and aria-static, and yours, stand beside the best static mix of a grid, "
              "which is searched for each row on seeds of its own.")  # fmt: skip
@click.option("--rows", default="*", metavar="PATTERN", help="Rows of the matrix to run, such as 'unet-v*'.  "
              "[default: all]")  # fmt: skip
@click.option("--tuning", default="0-1", show_default=True, metavar="N|A-B", help="Seeds of the search for the best "
              "static mix of each row of a matrix.")  # fmt: skip
@click.option("--variants", multiple=True, metavar="ARM", help="An arm of your own: the spec of an allocator, such as "
              "'greedy.py:Greedy(slack=0.2)', or 'name: allocator=…; tracker=…; floor=…'. Repeat the option for "
              "several arms.")  # fmt: skip
@click.option("--arms", "standard", metavar="A,B,…", help="Standard arms to run; rc is always one of them.  "
              "[default: all]")  # fmt: skip
@click.option("--no-standard", is_flag=True, help="Run no standard arm except rc.")
@click.option("--lookahead", is_flag=True, help="Also run greedy lookahead, a reference that shows how much could be "
              "gained by always choosing the best arm: every arm restarts from the currently best "
              "student.")  # fmt: skip
@click.option("--baseline", default="rc", show_default=True, metavar="ARM", help="Arm that changes are computed "
              "against.")  # fmt: skip
@click.option("--jobs", type=int, help="Number of runs at a time, for a task on disk, whose runs are processes.  "
              "[default: one for each core, or one on a GPU]")  # fmt: skip
@click.option("--device", metavar="cpu|cuda", help="Device that models compute on.  [default: cuda if available, else "
              "cpu]")  # fmt: skip
@click.option("--setting", default="rc", show_default=True, metavar="rc|tuned", help="Training settings that all arms "
              "share: rc is random conditioning as published; tuned replaces more conditions and weights noise levels "
              "by velocity.")  # fmt: skip
@click.option("--seeds", metavar="N|A-B", help="Seeds to run: a number N for seeds 0 to N-1, or a range A-B.  "
              "[default: 8]")  # fmt: skip
@click.option("--steps", type=int, help="Number of training steps of every run.  [default: the task's]")
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="A training setting that all arms share, "
              "such as learning_rate=0.0005: for a task on disk a setting of `aria distill`. Repeat the option for "
              "several.")  # fmt: skip
@click.option("--out", default="aria-bench", show_default=True, type=click.Path(path_type=Path), metavar="DIR",
              help="Folder for runs and results. Finished runs are not computed again, and a killed comparison "
              "continues.")  # fmt: skip
@click.option("--json", "to", metavar="FILE", help="File for a copy of the result as JSON, or - to print it instead of "
              "the table.")  # fmt: skip
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="PNG, SVG or PDF file for the learning "
              "curves and a plot of frequent against rare conditions.")  # fmt: skip
@click.option("--quick", is_flag=True, help="Use a smaller task, at most 800 steps and 3 seeds; for a task on disk 100 "
              "steps, 2 seeds and 3 arms. Except where you set them.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Show no progress.")
def command(spec: str | None, seeds: str | None, steps: int | None, quick: bool, out: Path, to: str | None,
            plot: Path | None, baseline: str, jobs: int | None, quiet: bool, rows_of: str | None, rows: str,
            tuning: str, **settings: Any) -> None:  # fmt: skip
    """Compare ways to allocate training effort. Every arm distils the same teachers, starting from the same weights and
    with the same seeds.

    Prints by how many percent each arm changes the generation gap relative to random conditioning (rc), by group of
    conditions, and writes DIR/report.html and DIR/results.json.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise Refusal(f"{', '.join(missing)} needed: pip install 'aria-distill[distill,sim]'")
    with refusals(out):
        _check_writable(out, to, plot)
        if rows_of is not None:
            shown = silent if quiet else bar
            _run_matrix(rows_of, rows, seeds or "100-104", tuning, steps, out, jobs, shown, **settings)
            return
        experiment = _experiment(spec, seeds, steps, quick, **settings)
        _check_known("--baseline", baseline, [arm.name for arm in experiment.arms])
        result = _compare(
            experiment, out, _command_line(click.get_current_context()), jobs, baseline, silent if quiet else bar
        )
        from aria.bench import figures, table

        if to not in (None, "-"):
            files.write_text(Path(str(to)), json.dumps(result, indent=1) + "\n")
        if plot is not None:
            figures.both(result).write(plot)
    if to == "-":
        tables.echo_json(result, indent=1)
        return
    tables.echo(table.text(result["table"], result["groups"]))
    tables.echo(f"\n{table.caption(result)}")
    tables.echo(f"\n{out / 'report.html'}\n{out / 'results.json'}")


def _run_matrix(
    rows_of: str, rows: str, seeds: str, tuning: str, steps: int | None, out: Path, jobs: int | None, shown: Bar, *,
    variants: Sequence[str], device: str | None, given: Sequence[str], **others: Any,
) -> None:  # fmt: skip
    """Run a matrix and print its summary."""
    context = click.get_current_context()
    for name in ("spec", "standard", "no_standard", "lookahead", "setting", "quick", "baseline", "plot", "to"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = next(parameter.opts[0] for parameter in context.command.params if parameter.name == name)
            raise ValueError(f"{option} is not for a matrix: leave it out")
    compared, searched = _seeds(seeds), _seeds(tuning, "--tuning")
    _check_early(None, variants, device)
    if rows_of not in MATRIX_NAMES and not Path(rows_of).is_file():
        hint = checks.hint(rows_of, MATRIX_NAMES)
        raise ValueError(f"there is no matrix {rows_of!r}{hint}: it is {', '.join(MATRIX_NAMES)} or a file of JSON")
    from aria.bench import arms, matrix, summary
    from aria.bench import device as devices
    from aria.bench.matrix_folder import PAGE, RESULT, compare

    plan = matrix.Matrix(
        matrix.tasks(rows_of, rows),
        compared,
        tuning=searched,
        arms=[*matrix.ARMS, *map(arms.arm, variants)],
        steps=steps,
        values=dict(map(_given, given)),
        device=devices.chosen(device),
    )
    with _one_line():
        result = compare(plan, out, _command_line(context), jobs, shown)
    tables.echo(summary.text(result["summary"]))
    tables.echo(f"\n{out / PAGE}\n{out / RESULT}")


def _experiment(
    spec: str | None, seeds: str | None, steps: int | None, quick: bool, *, variants: Sequence[str],
    standard: str | None, no_standard: bool, setting: str, lookahead: bool, device: str | None = None,
    given: Sequence[str] = (),
) -> Experiment:  # fmt: skip
    """The experiment that the options describe."""
    if no_standard and standard is not None:
        raise ValueError("--no-standard and --arms contradict each other: give one of them")
    numbers = _seeds(seeds or SEEDS)
    _check_known("--setting", setting, list(SETTINGS))
    _check_early(standard, variants, device)
    from aria.tasks import presets

    task = presets.task(presets.QUICK if quick and spec is None else spec or "default")
    on_disk = quick and not task.exact
    if quick and seeds is None:
        numbers = _seeds(QUICK_SEEDS_ON_DISK if on_disk else QUICK_SEEDS)
    if on_disk and standard is None:
        standard = QUICK_ARMS_ON_DISK
    from aria.bench import device as devices
    from aria.bench.experiment import Experiment
    from aria.bench.running import runner_of

    where = devices.chosen(device)
    experiment = Experiment(
        task,
        _arms("rc" if no_standard else standard, variants, exact=task.exact),
        numbers,
        SETTINGS[setting],
        steps=steps,
        values=dict(map(_given, given)),
        exams=presets.QUICK_EXAMS_ON_DISK if on_disk else Experiment.exams,
        lookahead=lookahead,
        device=where,
    )
    most = presets.QUICK_STEPS_ON_DISK if on_disk else presets.QUICK_STEPS
    length = runner_of(experiment).steps
    return replace(experiment, steps=min(length, most)) if quick and steps is None else experiment


def _check_early(standard: str | None, variants: Sequence[str], device: str | None) -> None:
    """Refuse unknown names before torch is loaded; values are checked later."""
    for name in () if standard is None else map(str.strip, standard.split(",")):
        _check_known("standard arm", name, list(STANDARD_NAMES))
    for text in variants:
        if text.strip() not in STANDARD_NAMES:
            _, colon, settings = text.partition(": ")
            pairs = [pair.partition("=")[::2] for pair in settings.split(";")] if colon else [("allocator", text)]
            for kind, spec in pairs:
                if kind.strip() in ("allocator", "tracker", "partitioner", "replacement", "weighting"):
                    specs.check(spec.strip(), kind.strip())
    if device is not None:
        checks.one_of("device", device, ("cpu", "cuda"))


def _arms(standard: str | None, variants: Sequence[str], *, exact: bool) -> list[Arm]:
    """The chosen standard arms in their own order, always with rc, then the user's. The oracle is a standard arm only
    where discrepancies can be computed exactly."""
    from aria.bench import arms
    from aria.bench.table import BASELINE

    known = [arm.name for arm in arms.STANDARD if exact or arm.name != arms.ORACLE]
    wanted = known if standard is None else [name.strip() for name in standard.split(",")]
    for name in wanted:
        _check_known("standard arm", name, known)
    chosen = [arm for arm in arms.STANDARD if arm.name in (*wanted, BASELINE)]
    return [*chosen, *map(arms.arm, variants)]


def _seeds(text: str, option: str = "--seeds") -> range:
    """Seeds 0 to N-1 for ``N``, or A to B for ``A-B``."""
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    seeds = range(0)
    if found is not None:
        seeds = range(int(found[1])) if found[2] is None else range(int(found[1]), int(found[2]) + 1)
    if not seeds:
        raise ValueError(f"{option} must be a number of seeds such as 8, or a range such as 0-7, got {text!r}")
    return seeds


def _given(text: str) -> tuple[str, Any]:
    """The setting and the value in ``name=value``; what is no number, list or truth value is text.

    >>> _given("learning_rate=5e-4"), _given("mixed_precision=bf16")
    (('learning_rate', 0.0005), ('mixed_precision', 'bf16'))
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise ValueError(f"--set must be NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _check_known(what: str, name: str, known: list[str]) -> None:
    """Refuse an unknown name, and suggest the closest known one."""
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}{checks.hint(name, known)}; there are: {', '.join(known)}")


def _compare(
    experiment: Experiment, out: Path, typed: str, jobs: int | None, baseline: str, shown: Bar
) -> dict[str, Any]:
    """Run what is missing, then write the result and its page."""
    from aria.bench import report, result

    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    records = _run(experiment, out / "cells", jobs, shown)
    seconds = time.monotonic() - started
    found = result.collect(experiment, records, command=typed, seconds=seconds, baseline=baseline)
    files.write_text(out / "results.json", json.dumps(found, indent=1) + "\n")
    files.write_text(out / "report.html", report.page(found))
    return found


def _run(experiment: Experiment, folder: Path, jobs: int | None, shown: Bar) -> list[Record]:
    """The records of all runs."""
    from aria.bench import running

    with _one_line():
        return running.run_experiment(experiment, folder, jobs=jobs, bar=shown)


@contextmanager
def _one_line() -> Iterator[None]:
    """A run that failed is one line."""
    from aria.bench.process_runner import CellFailed

    try:
        yield
    except CellFailed as error:
        raise click.ClickException(str(error)) from error


def _check_writable(out: Path, to: str | None, plot: Path | None) -> None:
    """Refuse, before any training, files that cannot be written."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, {out} is a file")
    if plot is not None and plot.suffix.lower() not in options.FIGURES:
        raise ValueError(f"--plot must end in {' or '.join(options.FIGURES)}, got {str(plot)!r}")
    for path in filter(None, (Path(to) if to not in (None, "-") else None, plot)):
        files.check_writable(path)


def _command_line(context: click.Context) -> str:
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
