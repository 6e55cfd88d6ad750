"""Real pictures: one teacher, and three students that differ in where their training steps were spent.

    python examples/emoji.py --output_dir demo

The teacher draws emoji from captions. Each student is the same smaller network, trained for as many steps with the
same seed: by random conditioning (rc), by the static mix that a search found best, and by ARIA's defaults. The page
DIR/report.html shows what they make of captions without pictures beside the teacher's, how far they are from it by
group, and where ARIA spent its steps. An interrupted command goes on where it was.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from aria import files, html
from aria.bench.arms import STANDARD, Arm
from aria.bench.experiment import Experiment
from aria.bench.process_runner import ProcessRunner
from aria.distill.evaluation import evaluation_page
from aria.distill.evaluation.evaluate import Evaluation, evaluate
from aria.distill.evaluation.report import Record
from aria.distill.evaluation.report.page import allocation
from aria.progress import bar
from aria.tasks import Emoji
from aria.tasks.emoji.split import WITHHELD

STATIC = Arm("static", by_condition=True, replacement="exponential(1.0)", weighting="velocity")
"""A static mix: conditions are replaced more often than in random conditioning, and noise levels are weighted."""
NAMES = ("rc", "static", "aria")
ARMS = {arm.name: arm for arm in (*STANDARD, STATIC) if arm.name in NAMES}
STEPS, CAPTIONS, PICTURES, ASKED = 150, 1500, 500, 60
INTRODUCTION = (
    "The teacher draws emoji in three designs; the student is the same network with half of its blocks. It was trained "
    "{steps} steps on {pictures} pictures, and on {captions} captions, most of which have no picture: concepts were "
    "withheld in one design, and whole subcategories of a design. Three students differ only in where their steps were "
    "spent: rc draws the conditions that replace a picture's own from all captions alike (random conditioning), static "
    "does so more often and weighs noise levels differently, and aria is what aria distill does by default in the "
    "benchmark. One seed and few steps: the benchmark's matrix has the numbers that count."
)


@click.command(help=__doc__.split("\n")[0])
@click.option("--output_dir", "out", default="demo", show_default=True, type=click.Path(path_type=Path))
@click.option("--steps", default=STEPS, show_default=True, help="Training steps of each student.")
@click.option("--task", "given", default="{}", help="Settings of the task, as JSON.")
def main(out: Path, steps: int, given: str) -> None:
    """Train, evaluate, and write the page."""
    task = Emoji(**({"images": PICTURES, "captions": CAPTIONS, "asked": ASKED} | json.loads(given)))
    place = out / "task"
    task.prepare(place, bar, "cpu")
    train(task, place, out, steps)
    asked = out / "asked.jsonl"
    rows, _ = task.split.asked(task.asked)
    lines = [{"prompt": task.split.captions[row], "kind": WITHHELD[task.split.withheld[row]]} for row in rows.tolist()]
    files.write_text(asked, "".join(json.dumps(line) + "\n" for line in lines))
    students = [str(out / name) for name in NAMES]
    plan = Evaluation(
        str(place / "teacher"), students, asked, group="kind", steps=task.steps, guidance=task.guidance
    )
    result = evaluate(plan, out / "evaluation", bar=bar)
    files.write_text(out / "report.html", page(result, out, task, steps))
    print(table(result))
    print(f"\n{out / 'report.html'}")


def train(task: Emoji, place: Path, out: Path, steps: int) -> None:
    """Run ``aria distill`` for every student, all at a time; they share one cache."""
    arms = [ARMS[name] for name in NAMES]
    runner = ProcessRunner(Experiment(task, arms, seeds=[0], steps=steps, exams=1), task)
    processes = []
    for arm in arms:
        settings = runner.settings(arm, 0, place) | {"prompts": str(place / "prompts.jsonl")}  # which have no weights
        settings |= {"output_dir": str(out / arm.name), "cache_dir": str(out / "cache")}
        config = out / f"{arm.name}.json"
        files.write_json(config, {key: value for key, value in settings.items() if value is not None})
        command = [sys.executable, "-m", "aria.cli", "distill", "--config", str(config)]
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment))
    if any([process.wait() for process in processes]):
        raise click.ClickException("a training failed; what it printed is above")


def page(result: Mapping[str, Any], out: Path, task: Emoji, steps: int) -> html.Html:
    """Pictures, table by group, and where ARIA spent its steps."""
    introduction = INTRODUCTION.format(steps=steps, pictures=task.images, captions=task.captions)
    record = Record(out / "aria")
    return html.page(
        "ARIA on emoji",
        html.tag("p", introduction),
        *evaluation_page.sections(result, out / "evaluation" / "prompts.png"),
        *list(allocation(record, record.seen()))[:1],
    )


def table(result: Mapping[str, Any]) -> str:
    """The gap of every group for each student."""
    gaps = {(row["group"], row["student"]): row["mean"] for row in result["table"] if row["metric"] == "gap"}
    lines = ["generation gap".ljust(18) + "".join(f"{name:>10}" for name in NAMES)]
    for group in result["groups"]:
        lines.append(group.ljust(18) + "".join(f"{gaps[group, name]:>10.4f}" for name in NAMES))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
