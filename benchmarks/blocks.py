"""Which blocks a student should keep: the rules of `aria prune --by`, before and after a short distillation.

    python -m benchmarks.blocks --output benchmarks/results/blocks-cpu.json

For the trained transformers of the emoji task, several sizes, and several seeds: the error of the student's output at
single noise levels before training, and its generation gap before and after a short distillation by the engine. The
seed is that of training and of what a rule measures. Of the four blocks of ``joint-attention`` the last has to stay, so
that every possible student is trained (``every``); ``random`` draws blocks. Students of the same blocks and seed are
trained once. What is in the output already is kept, so that a stopped command is continued by running it again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from aria import files
from aria.bench.result import machine
from aria.distill.data import cache
from aria.distill.evaluation.examiner import Examiner
from aria.distill.evaluation.gap import generation_gap
from aria.distill.models.pipelines import open_model, open_pipeline
from aria.distill.runs.run import run
from aria.distill.settings.config import Config
from aria.distill.students import Measurement, prune
from aria.distill.students.transformer.blocks import evenly
from aria.distill.students.transformer.choose import By
from aria.distill.students.transformer.measurement import Sample, sample
from aria.progress import silent
from aria.tasks.emoji.task import Emoji

SIZES = {"cross-attention": (6, 4, 2), "joint-attention": (3, 2)}
"""Teachers, of 8 and of 4 blocks, and how many blocks a student keeps."""
MEASURED: tuple[tuple[str, By, dict[str, Any]], ...] = (
    ("similarity", "similarity", {}),
    ("recoverability", "recoverability", {}),
    ("recoverability, one pass", "recoverability", {"one_pass": True}),
)
BLOCKS = {"cross-attention": 8, "joint-attention": 4}
HELD_OUT, IMAGES = 1000, 32
"""Seed and number of the images on which errors are compared; rules measure on others."""
Cell = dict[str, Any]


class World:
    """A teacher, its student's data, and the captions of the evaluation."""

    def __init__(self, kind: str, folder: Path, asked: int, images: int) -> None:
        self.task, self.place, self.cache = Emoji(teacher=kind, asked=asked), folder / kind, folder / f"{kind}-cache"
        self.task.prepare(self.place, silent, "cpu")
        self.settings = self.task.settings(self.place)
        self.prompts, data = Path(self.settings["prompts"]), Path(self.settings["train_data_dir"])
        self.pipeline: Any = open_pipeline(self.place / "teacher")
        cache.fill(self.cache, self.pipeline, prompts=self.prompts, bar=silent, num_images=0, data=data)
        questions = self.task.questions(self.place)
        self.examiner = Examiner(self.pipeline, questions.prompts, guidance=self.task.guidance, seed=0)
        self.wanted = self.examiner.latents(self.examiner.teacher, steps=self.task.steps)
        how = self.measurement(count=images)
        self.held_out = sample(self.place / "teacher", self.examiner.teacher, how, HELD_OUT)

    def measurement(self, **changes: Any) -> Measurement:
        """What a rule measures on: 8 images of the pool's captions, as the evaluation makes them."""
        how = {"prompts": self.prompts, "steps": self.task.steps, "guidance": self.task.guidance}
        return Measurement(**(how | changes))

    def gap(self, student: Any) -> float:
        """The generation gap over the captions of the evaluation."""
        made = self.examiner.latents(student, steps=self.task.steps)
        return float(generation_gap(self.wanted, made).mean())

    def trained(self, blocks: Sequence[int], steps: int, seed: int) -> Cell:
        """The errors of the student of these blocks before and after ``steps`` of training."""
        with tempfile.TemporaryDirectory() as output:
            prune(self.place / "teacher", Path(output) / "student", blocks=list(blocks))
            student = open_model(Path(output) / "student").eval()
            found = {"error": error(self.held_out, student), "fresh_gap": self.gap(student)}
            own: Cell = {"max_train_steps": steps, "seed": seed, "student": str(Path(output) / "student")}
            own |= {"output_dir": str(Path(output) / "run"), "cache_dir": str(self.cache)}
            if run(Config().with_values(self.settings | own), bar=silent, quiet=True).stopped_by:
                raise SystemExit("stopped: the same command goes on from here")
            student = open_model(Path(output) / "run" / "transformer").eval()
            return found | {"trained_error": error(self.held_out, student), "gap": self.gap(student)}


@torch.no_grad()
def error(on: Sample, student: Any) -> float:
    """The relative squared error of a student's outputs."""
    apart = power = 0.0
    for batch in on.batches:
        inputs = batch.noisy, batch.timestep, batch.condition
        wanted, found = on.evaluate(on.model, *inputs), on.evaluate(student, *inputs)
        apart, power = apart + float((found - wanted).square().sum()), power + float(wanted.square().sum())
    return apart / power


def choices(world: World, kind: str, seed: int, randoms: int) -> list[Cell]:
    """The blocks that every rule keeps at each size, and those of the students it is compared with.

    Measured rules remove one block after the other, so that the smallest student's choice holds those of the others.
    """
    sizes, total = SIZES[kind], BLOCKS[kind]
    found: list[Cell] = [{"rule": "position", "blocks": list(evenly(keep, total))} for keep in sizes]
    for rule, by, changes in MEASURED:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as output:
            how = world.measurement(**changes)
            record = prune(world.place / "teacher", output, keep=sizes[-1], by=by, measurement=how, seed=seed)
        seconds, rows = round(time.perf_counter() - start, 1), record["blocks"]["choice"]["rows"]
        for keep in sizes:
            stay = [row["block"] for row in rows if row["removed"] is None or row["removed"] > total - keep]
            found.append({"rule": rule, "blocks": stay, "seconds": seconds, "rows": rows})
    for keep in sizes:
        if kind == "joint-attention":
            every = itertools.combinations(range(total - 1), keep - 1)
            found += [{"rule": "every", "blocks": [*blocks, total - 1]} for blocks in every]
        else:
            drawn = random.Random(f"{kind} {keep} {seed}")
            some = [sorted(drawn.sample(range(total), keep)) for _ in range(randoms)]
            found += [{"rule": "random", "blocks": blocks} for blocks in some]
    return [{"teacher": kind, "keep": len(one["blocks"]), "seed": seed, **one} for one in found]


def same(cell: Cell, other: Cell) -> bool:
    """Whether two cells are of the same student."""
    return all(cell[name] == other[name] for name in ("teacher", "blocks", "seed"))


def table(result: Cell) -> str:
    """Means over seeds, and the gap relative to that of evenly spaced blocks with the same seed. Of all possible
    students there is one row each, of a rule one row, with all the blocks that it kept."""
    trained = [
        choice | cell for choice in result["choices"] for cell in result["students"] if same(cell, choice)
    ]
    groups: dict[tuple[str, int, str, str], list[Cell]] = {}
    for one in trained:
        blocks = str(one["blocks"]) if one["rule"] == "every" else ""
        groups.setdefault((one["teacher"], one["keep"], one["rule"], blocks), []).append(one)
    heads = f"{'error':>7}{'fresh gap':>11}{'gap':>8}{'vs position':>13}"
    lines = [f"{'teacher':17}{'keep':>4}  {'rule':25}{heads}  blocks"]
    for (kind, keep, rule, _), group in sorted(groups.items(), key=lambda item: (item[0][0], -item[0][1])):
        base = {one["seed"]: one["gap"] for one in groups.get((kind, keep, "position", ""), [])}
        changes = [one["gap"] / base[one["seed"]] - 1 for one in group if one["seed"] in base]
        means = [statistics.mean(one[name] for one in group) for name in ("error", "fresh_gap", "gap")]
        numbers = f"{means[0]:7.3f}{means[1]:11.3f}{means[2]:8.4f}{statistics.mean(changes):+13.1%}" if changes else ""
        blocks = " ".join(sorted({",".join(map(str, one["blocks"])) for one in group}))
        lines.append(f"{kind:17}{keep:4}  {rule:25}{numbers}  {blocks}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Choose blocks by every rule, train the students, and write what was found after each of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blocks", description=__doc__.splitlines()[0])
    parser.add_argument("--teachers", nargs="*", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150, help="training steps, of 16 images each")
    parser.add_argument("--asked", type=int, default=60, help="captions of the evaluation")
    parser.add_argument("--images", type=int, default=IMAGES, help="images on which errors are compared")
    parser.add_argument("--randoms", type=int, default=1, help="random students for each size and seed")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    settings = {name: getattr(options, name) for name in ("steps", "asked", "images", "randoms")}
    typed = "python -m benchmarks.blocks " + " ".join(f"--{name} {value}" for name, value in settings.items())
    result: Cell = {"command": f"{typed} --seeds {options.seeds}", "machine": machine(), "settings": settings}
    result |= {"choices": [], "students": []}
    if options.output.is_file():
        had = json.loads(options.output.read_text(encoding="utf-8"))
        if had["settings"] != settings:
            parser.error(f"{options.output} was made with {had['settings']}: choose another file")
        result |= {name: had[name] for name in ("choices", "students")}

    def save() -> None:
        files.write_text(options.output, json.dumps(result, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as place:
        worlds = {kind: World(kind, Path(place), options.asked, options.images) for kind in options.teachers}
        for seed, kind in itertools.product(range(options.seeds), worlds):
            here = {"teacher": kind, "seed": seed}
            if not any(here.items() <= choice.items() for choice in result["choices"]):
                result["choices"] += choices(worlds[kind], kind, seed, options.randoms)
                save()
            for choice in [choice for choice in result["choices"] if here.items() <= choice.items()]:
                if any(same(cell, choice) for cell in result["students"]):
                    continue
                start = time.perf_counter()
                found = worlds[kind].trained(choice["blocks"], options.steps, seed)
                found |= {"seconds": round(time.perf_counter() - start, 1)}
                result["students"].append(here | {"blocks": choice["blocks"]} | found)
                save()
                print(f"{kind} {choice['blocks']} seed {seed}: gap {found['gap']:.4f}", flush=True)
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
