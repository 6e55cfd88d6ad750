r"""Which rows of a batch bring the student's pictures closer to the teacher's, by their source and noise level.

    python -m benchmarks.influence --output benchmarks/results/influence-cpu.json

The *influence* of a row with loss :math:`\ell` is :math:`\langle\nabla J, \nabla\ell\rangle`: how fast the generation
gap J falls while the student learns from it alone. J is the gap of all captions after sampling with guidance, and its
gradient is computed exactly, through all sampling steps of the student. Rows are *paired*, images with their own
captions, or *random*, images with captions of the pool. Students are trained by the engine, each with another
probability of replacing captions, and are then measured.

The influence of a source falls as more rows are spent on it. A rule that follows from it, as the proportional rule does
from discrepancies, is a share of :math:`I_{random}/(I_{random} + I_{paired})` random rows. It is printed as "share"; a
mix is settled where its own share is that.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aria import files, registry
from aria.bench.result import machine
from aria.distill.data import cache
from aria.distill.data.latents import IMAGES
from aria.distill.models import denoisers
from aria.distill.models.denoisers import Condition, Denoiser
from aria.distill.models.pipelines import component_of, open_model, open_pipeline
from aria.distill.models.schedule import NoiseSchedule
from aria.distill.runs.run import run
from aria.distill.settings.config import Config
from aria.progress import bar, silent
from aria.tasks import presets
from aria.tasks.on_disk import OnDisk

BATCH, BANDS = 16, 10
SOURCES = ("paired", "random")
REPLACEMENTS = ("exponential(5.0)", "constant(0.5)", "constant(0.75)")
"""That of random conditioning, and two that replace at all noise levels alike."""


@dataclass(frozen=True, eq=False)
class World:
    """A teacher, and what its student is trained on."""

    pipeline: Any
    conditions: Condition
    """Of the pool's captions."""
    null: Condition
    images: Tensor
    """(M, …) latents."""
    own: Tensor
    """(M,) the caption of each."""
    steps: int
    guidance: float

    @cached_property
    def denoiser(self) -> Denoiser:
        return denoisers.of(self.pipeline)

    @cached_property
    def teacher(self) -> Any:
        return self.denoiser.model_of(self.pipeline)

    @cached_property
    def schedule(self) -> NoiseSchedule:
        return NoiseSchedule.of(self.pipeline.scheduler)

    def rows(self, index: Tensor | None, count: int) -> Condition:
        """(count, …) the conditions of these captions, or the null condition in every row."""
        if index is None:
            return {name: value.expand(count, *value.shape[1:]) for name, value in self.null.items()}
        return {name: value[index] for name, value in self.conditions.items()}


def measure(world: World, student: Any, batches: int, seed: int) -> dict[str, Any]:
    """The generation gap, and the influence of both sources in every band of noise levels, the least noise first."""
    generator = torch.Generator().manual_seed(seed)
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]

    def gradient(loss: Tensor) -> Tensor:
        parts = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])

    gap, target = 0.0, torch.zeros(sum(parameter.numel() for parameter in parameters))
    for _ in range(batches):
        index = torch.randint(len(next(iter(world.conditions.values()))), (BATCH,), generator=generator)
        noise = torch.randn(BATCH, *world.images.shape[1:], generator=generator)
        with torch.no_grad():
            wanted = _sampled(world, world.teacher, noise, index)
        loss = (_sampled(world, student, noise, index) - wanted).pow(2).mean()
        gap, target = gap + loss.item() / batches, target + gradient(loss) / batches
    found: dict[str, Any] = {"gap": gap, "influence": {}, "loss": {}}
    for source in SOURCES:
        influence, losses = [], []
        for band in range(BANDS):
            value, mean = 0.0, 0.0
            for _ in range(batches):
                loss = _row_loss(world, student, source, band, generator)
                value += float(target @ gradient(loss)) / batches
                mean += loss.item() / batches
            influence.append(value)
            losses.append(mean)
        found["influence"][source], found["loss"][source] = influence, losses
    paired, random = (sum(found["influence"][source]) for source in SOURCES)
    found["share"] = random / (random + paired)
    return found


def _sampled(world: World, model: Any, noise: Tensor, index: Tensor) -> Tensor:
    """(B, …) latents made by ``model`` with guidance; gradients flow through all steps."""
    scheduler = world.pipeline.scheduler
    scheduler = type(scheduler).from_config(scheduler.config)
    scheduler.set_timesteps(world.steps)
    condition, null = world.rows(index, BATCH), world.rows(None, BATCH)
    latents = noise
    for time in scheduler.timesteps:
        times = time.expand(BATCH)
        conditional, unconditional = (world.denoiser(model, latents, times, which) for which in (condition, null))
        output = unconditional + world.guidance * (conditional - unconditional)
        latents = scheduler.step(output, time, latents, return_dict=False)[0]
    return latents


def _row_loss(world: World, student: Any, source: str, band: int, generator: torch.Generator) -> Tensor:
    """The mean loss of a batch of one source at noise levels of one band."""
    schedule = world.schedule
    image = torch.randint(len(world.images), (BATCH,), generator=generator)
    drawn = torch.randint(len(next(iter(world.conditions.values()))), (BATCH,), generator=generator)
    width = len(schedule) // BANDS
    level = band * width + torch.randint(width, (BATCH,), generator=generator)
    noise = torch.randn(BATCH, *world.images.shape[1:], generator=generator)
    noisy = schedule.add_noise(world.images[image], noise, level)
    time = level if schedule.time is None else schedule.time[level]
    condition = world.rows(world.own[image] if source == "paired" else drawn, BATCH)
    with torch.no_grad():
        wanted = world.denoiser(world.teacher, noisy, time, condition)
    return (world.denoiser(student, noisy, time, condition) - wanted).pow(2).mean()


def world_of(task: OnDisk, folder: Path) -> World:
    """The task's teacher and data; the cache is made by the first call."""
    place = folder / "task"
    task.prepare(place, silent, "cpu")
    settings = task.settings(place)
    pipeline = open_pipeline(place / "teacher")
    prompts, data = Path(settings["prompts"]), Path(settings["train_data_dir"])
    cache.fill(folder / "cache", pipeline, prompts=prompts, bar=silent, num_images=0, data=data)
    conditions, images = cache.opened(folder / "cache", resolution=None, pipeline=pipeline, source=IMAGES)
    everything, own = images.gather(torch.arange(len(images)))
    known = conditions.gather(torch.arange(len(conditions)))
    how = settings["num_inference_steps"], settings["guidance_scale"]
    return World(pipeline, known, conditions.null(1), everything.float(), own, *how)


def trained(world: World, task: OnDisk, replacement: str, steps: int, seed: int, folder: Path) -> Any:
    """A student after ``steps`` steps of the engine, with captions replaced at random."""
    own = {"max_train_steps": steps, "seed": seed, "replacement": replacement, "allocator": "pool", "on_policy": 0.0}
    with tempfile.TemporaryDirectory(dir=folder) as output:
        places = {"output_dir": output, "cache_dir": str(folder / "cache")}
        config = Config().with_values(task.settings(folder / "task") | own | places)
        run(config, bar=bar, quiet=True)
        student = open_model(Path(output) / component_of(world.pipeline))
    return student.eval()


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and measure students."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.influence", description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="emoji", help="a task on disk")
    parser.add_argument("--replacement", action="append", help="how often captions are replaced; may be repeated")
    parser.add_argument("--steps", type=int, default=200, help="training steps before the measurement")
    parser.add_argument("--batches", type=int, default=4, help=f"batches of {BATCH} in every mean")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    task = presets.task(options.task)
    if not isinstance(task, OnDisk):
        parser.error(f"{options.task} is in memory: give a task on disk, such as emoji")
    found = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        world = world_of(task, folder)
        for replacement in options.replacement or REPLACEMENTS:
            student = trained(world, task, replacement, options.steps, options.seed, folder)
            found[replacement] = measure(world, student, options.batches, options.seed)
            print(f"{replacement}: gap {found[replacement]['gap']:.4f}, share {found[replacement]['share']:.2f}")
    typed = f"python -m benchmarks.influence --task {registry.spec(task)!r} --steps {options.steps}"
    typed += f" --batches {options.batches} --seed {options.seed}"
    result = {"command": typed, "machine": machine("cpu"), "mixes": found}
    files.write_text(options.output, json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
