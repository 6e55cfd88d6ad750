"""What a teacher's blocks are measured on: noised images of a few prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aria import checks
from aria.distill.data import cache
from aria.distill.data.latents import generator
from aria.distill.data.prompt_files import read_prompts
from aria.distill.evaluation import grids
from aria.distill.evaluation.examiner import Examiner
from aria.distill.models import denoisers
from aria.distill.models.denoisers import Condition, Evaluate
from aria.distill.models.denoisers.guidance import GUIDANCE, is_open
from aria.distill.models.pipelines import open_pipeline
from aria.distill.models.schedule import NoiseSchedule, Timed
from aria.distill.students.transformer.probe import HALVES
from aria.progress import Bar, silent
from aria.samplers.draws import step_seed

LEVELS = 4
"""Noise levels of each image, one in each part of the schedule."""
ROWS = 4
"""Images in a batch."""


@dataclass(frozen=True)
class Measurement:
    """How blocks are measured: on images of prompts that the teacher generates, or on those of a cache."""

    prompts: Path | None = None
    column: str | None = None
    cache: Path | None = None
    count: int = 8
    """Number of images."""
    steps: int = 25
    guidance: float = 7.5
    resolution: int | None = None
    frames: int | None = None
    dtype: str = "fp32"
    """Precision in which the teacher runs."""
    one_pass: bool = False
    """Whether blocks are measured once only, and not again after each removal."""
    bar: Bar = silent

    def check(self) -> None:
        """Refuse what can be refused before the teacher is opened."""
        if (self.prompts is None) == (self.cache is None):
            raise ValueError("blocks are measured on images of prompts: give either prompts or cache_dir")
        if self.prompts is not None and not self.prompts.exists():
            raise ValueError(f"there is no prompt file {self.prompts}")
        if self.cache is not None and not self.cache.is_dir():
            raise ValueError(f"there is no cache {self.cache}")
        checks.whole("measure_on", self.count, least=2)
        checks.non_negative("guidance_scale", self.guidance)
        checks.one_of("dtype", self.dtype, tuple(cache.DTYPES))


@dataclass(frozen=True, eq=False)
class Batch:
    """Noised images, one evaluation of the model."""

    noisy: Tensor
    timestep: Tensor
    condition: Condition
    half: int
    """Which half of the images it is of."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A model, and the batches on which its blocks are measured."""

    model: Any
    evaluate: Evaluate
    batches: list[Batch]
    images: int


def sample(teacher: str | Path, model: Any, how: Measurement, seed: int) -> Sample:
    """The model of the pipeline in the folder ``teacher``, and what it is measured on. The pipeline is opened around
    ``model`` if that has the right precision; it moves to the GPU, if there is one.

    The images of the prompts and their noise depend on ``seed`` alone.
    """
    prompts = [] if how.prompts is None else _prompts(how.prompts, how, seed)
    dtype = cache.DTYPES[how.dtype]
    parts = {"transformer": model} if model.dtype == dtype else {}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline: Any = open_pipeline(teacher, dtype=dtype, **parts).to(device)
    denoiser = denoisers.of(pipeline)
    own = denoiser.model_of(pipeline)
    images, condition = _generated(pipeline, prompts, how, seed) if prompts else _cached(pipeline, how, seed)
    if is_open(own):
        condition = condition | {GUIDANCE: torch.full((len(images),), how.guidance)}
    images = images.to(device, dtype)
    condition = {name: x.to(images) if x.is_floating_point() else x.to(device) for name, x in condition.items()}
    schedule = NoiseSchedule.of(pipeline.scheduler).to(device)
    evaluate: Evaluate = denoiser if schedule.time is None else Timed(denoiser, schedule.time)
    return Sample(own, evaluate, _noised(images, condition, schedule, seed), len(images))


def _prompts(path: Path, how: Measurement, seed: int) -> list[str]:
    """Some of the prompts in a file."""
    texts = read_prompts(path, column=how.column).texts
    return [texts[row] for row in _drawn(path, len(texts), how.count, seed)]


def _generated(pipeline: Any, prompts: list[str], how: Measurement, seed: int) -> tuple[Tensor, Condition]:
    """Images that the teacher makes of these prompts."""
    kwargs: dict[str, Any] = {"guidance": how.guidance, "resolution": how.resolution, "frames": how.frames}
    examiner = Examiner(pipeline, prompts, seed=seed, **kwargs)
    with how.bar("images") as progress:
        return examiner.latents(examiner.teacher, steps=how.steps, progress=progress), examiner.encoded[0]


def _cached(pipeline: Any, how: Measurement, seed: int) -> tuple[Tensor, Condition]:
    """Some of the images of a cache."""
    assert how.cache is not None
    kwargs: dict[str, Any] = {"resolution": how.resolution, "frames": how.frames, "pipeline": pipeline}
    conditions, latents = cache.opened(how.cache, residency="disk", **kwargs)
    try:
        images, own = latents.gather(torch.tensor(_drawn(how.cache, len(latents), how.count, seed)))
        return images, conditions.gather(own)
    finally:
        conditions.close()
        latents.close()


def _drawn(path: Path, total: int, count: int, seed: int) -> list[int]:
    """Some of the ``total`` rows in a file, or all if there are no more: at least one for each half."""
    if total < 2:
        raise ValueError(f"{path} holds one image or prompt to measure on; at least 2 are needed")
    drawn: list[int] = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count].tolist()
    return drawn


def _noised(images: Tensor, condition: Condition, schedule: NoiseSchedule, seed: int) -> list[Batch]:
    """Batches of images at all of their noise levels. Together the levels of all images are spread evenly."""
    count, total = len(images), len(schedule)
    batches = []
    chunks = [(half, rows) for half in HALVES for rows in _chunks(range(half, count, 2), images)]
    for half, rows in chunks:
        index = torch.tensor(rows)
        own = {name: value[index.to(value.device)] for name, value in condition.items()}
        for level in range(LEVELS):
            places = [level * count + row for row in rows]
            time = torch.tensor([(2 * place + 1) * total // (2 * count * LEVELS) for place in places])
            drawn = [torch.randn(images.shape[1:], generator=generator(step_seed(seed, 1), place)) for place in places]
            noise, time = torch.stack(drawn).to(images), time.to(images.device)
            batches.append(Batch(schedule.add_noise(images[index.to(images.device)], noise, time), time, own, half))
    return batches


def _chunks(rows: Sequence[int], images: Tensor) -> list[Sequence[int]]:
    """So many rows at a time as make a batch."""
    size = grids.batch(images, ROWS)
    return [rows[size * place : size * (place + 1)] for place in range(math.ceil(len(rows) / size))]
