"""The demo: one teacher of real pictures, and three students that differ in where their training steps were spent.

Each student is the same smaller network, trained for as many steps with the same seed: by random conditioning (rc), by
a static mix, and by ARIA's defaults.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aria import files, html, run_log
from aria.bench.arms import STANDARD
from aria.bench.experiment import Experiment
from aria.bench.process_runner import CellFailed, ProcessRunner
from aria.distill.evaluation import evaluation_page
from aria.distill.evaluation.evaluate import Evaluation, evaluate
from aria.distill.evaluation.report import Record
from aria.distill.evaluation.report.page import allocation
from aria.progress import Bar, silent
from aria.run_log import LOSSES
from aria.tasks import Emoji
from aria.tasks.emoji.split import WITHHELD

STATIC = replace(next(arm for arm in STANDARD if arm.name == "aria-static"), name="static")
"""A static mix: conditions are replaced more often than in random conditioning, and noise levels are weighted."""
NAMES = ("rc", "static", "aria")
ARMS = {arm.name: arm for arm in (*STANDARD, STATIC) if arm.name in NAMES}
STEPS, PAGE = 150, "report.html"
TASK = Emoji(images=500, captions=1500, asked=120)
INTRODUCTION = (
    "The teacher draws emoji in three designs; the student is the same network with half of its blocks. It was trained "
    "{steps} steps on {pictures} pictures and {captions} captions, most of which have no picture. Below are captions "
    "without a picture, of two kinds: concepts that were withheld in one design, and whole subcategories of a design. "
    "Three students differ only in where their steps were spent. In rc, random conditioning, a picture's own caption "
    "is sometimes replaced by any of all captions. In static it is replaced more often, and noise levels are weighted "
    "by velocity. Aria is static, except that regions where the student still disagrees are drawn more often. This is "
    "one seed and few steps, and some per cent of a difference are chance. docs/benchmark.md compares them over seeds "
    "and teachers: aria is ahead of the best static mix in some comparisons and level with it in others."
)


def run(out: Path, *, steps: int = STEPS, task: Emoji = TASK, shown: Bar = silent) -> dict[str, Any]:
    """Train, evaluate, and write the page; returns the result of the evaluation."""
    place, asked = out / "task", out / "asked.jsonl"
    task.prepare(place, shown, "cpu")
    train(task, place, out, steps, shown)
    rows = [row for row in task.split.asked(task.asked)[0].tolist() if task.split.withheld[row]]
    kinds = [{"prompt": task.split.captions[row], "kind": WITHHELD[task.split.withheld[row]]} for row in rows]
    files.write_text(asked, "".join(json.dumps(kind) + "\n" for kind in kinds))
    students = [str(out / name) for name in NAMES]
    plan = Evaluation(str(place / "teacher"), students, asked, group="kind", steps=task.steps, guidance=task.guidance)
    result = evaluate(plan, out / "evaluation", bar=shown)
    files.write_text(out / PAGE, page(result, out, task, steps))
    return result


def train(task: Emoji, place: Path, out: Path, steps: int, shown: Bar) -> None:
    """Run ``aria distill`` for every student, all at a time; they share one cache."""
    arms = [ARMS[name] for name in NAMES]
    runner = ProcessRunner(Experiment(task, arms, seeds=[0], steps=steps, exams=1), task)
    processes = {}
    for arm in arms:
        settings = runner.settings(arm, 0, place) | {"prompts": str(place / "prompts.jsonl")}  # which have no weights
        settings |= {"output_dir": str(out / arm.name), "cache_dir": str(out / "cache")}
        config = out / f"{arm.name}.json"
        files.write_json(config, {key: value for key, value in settings.items() if value is not None})
        command = [sys.executable, "-m", "aria.cli", "distill", "--config", str(config)]
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        with (out / f"{arm.name}.log").open("wb") as log:
            processes[arm.name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        with shown("students") as progress:
            while any(process.poll() is None for process in processes.values()):
                _check(processes, out)
                progress(sum(_steps(out / name) for name in NAMES), steps * len(NAMES))
                time.sleep(0.5)
            _check(processes, out)
            progress(steps * len(NAMES), steps * len(NAMES))
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait()


def _check(processes: Mapping[str, subprocess.Popen[bytes]], out: Path) -> None:
    """Refuse to go on when a training has failed."""
    for name, process in processes.items():
        if process.returncode:
            last = (out / f"{name}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise CellFailed(f"training {name} ended with {process.returncode}: {' '.join(last)} ({out / name}.log)")


def _steps(run: Path) -> int:
    """The number of steps that a run has logged."""
    rows = run_log.read(run / LOSSES, {})
    return int(rows[-1]["step"]) if rows else 0


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
