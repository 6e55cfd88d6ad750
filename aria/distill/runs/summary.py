"""The summary printed before a run, and the estimate of its memory."""

from __future__ import annotations

import math
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from aria.distill.data.prompts import Prompts
from aria.distill.engine.learner import HALF
from aria.distill.engine.sharding import without_weights
from aria.distill.models import denoisers
from aria.distill.models.denoisers.guidance import GUIDANCE
from aria.distill.models.pipelines import component_of
from aria.distill.runs import regions
from aria.distill.runs.checkpoint import Saved
from aria.distill.runs.plan import RunPlan

GIGABYTE = 1e9
GRADIENTS, ADAM, AVERAGE = 1, 2, 1
"""Copies of the trained weights in float32 besides the weights themselves."""


def summary(
    plan: RunPlan, pipeline: Any, student: nn.Module, prompts: Prompts, accelerator: Accelerator, start: Saved | None
) -> str:
    """The models, data, allocation, length, device and output folder of a run, one line each."""
    config, loop, ranks = plan.config, plan.loop, accelerator.num_processes
    teacher = getattr(pipeline, component_of(pipeline))
    parts = [f"{loop.batch_size} per pass"]
    parts += [f"{loop.accumulation} passes"] if loop.accumulation > 1 else []
    parts += [f"{ranks} processes"] if ranks > 1 else []
    images = (
        f"images of {config.data.train_data_dir}"
        if config.data.train_data_dir
        else f"{config.data.num_images} images made by the teacher in {plan.teacher_steps} steps"
    )
    allocation = config.allocation
    rows = {
        "teacher": f"{config.models.pretrained_model_name_or_path} ({_described(teacher)})",
        "student": f"{config.models.student} ({_described(student)}, {_trained(student)} of them trained)",
        "pool": f"{len(prompts):,} prompts of {config.data.prompts}",
        "images": images,
        "regions": regions.described(allocation.partitioner, len(prompts), seed=loop.seed),
        "allocation": f"{allocation.allocator} of {allocation.tracker}, floor {allocation.floor:g}",
        "batch": f"{loop.samples * ranks} samples per step" + (f" ({' x '.join(parts)})" if len(parts) > 1 else ""),
        "steps": f"{loop.steps}" + (f", resuming from {start.folder.name}" if start else ""),
        "device": f"{accelerator.device}, mixed precision {accelerator.mixed_precision}",
        "output": str(plan.output),
    }
    return "\n".join(f"{name:<12}{text}" for name, text in rows.items())


def memory(plan: RunPlan, pipeline: Any, student: nn.Module, prompts: Prompts, accelerator: Accelerator) -> str:
    """An estimate of the device memory that one process needs for training, by use."""
    loop, ranks = plan.loop, accelerator.num_processes
    teacher, component = getattr(pipeline, component_of(pipeline)), component_of(pipeline)
    half = HALF.get(str(accelerator.mixed_precision))
    shards = ranks if loop.fsdp else 1
    trained = sum(value.numel() * 4 for value in student.parameters() if value.requires_grad)
    copies = GRADIENTS + ADAM + (AVERAGE if loop.ema_decay else 0)
    others = [part for name, part in pipeline.components.items() if name != component and isinstance(part, nn.Module)]
    parts: dict[str, float | None] = {
        "teacher": size(teacher) * (0.5 if half is not None else 1.0),
        "encoders and decoder": float(sum(map(size, others))),
        "student": size(student) / shards,
        "gradients, optimiser" + (", average" if loop.ema_decay else ""): copies * trained / shards,
        "activations": activations(plan, pipeline, student, half),
        "encoded prompts and latents": cached(plan, pipeline, len(prompts)),
    }
    rows = [f"  {name:<32}{_gigabytes(value):>10}" for name, value in parts.items()]
    known = [value for value in parts.values() if value is not None]
    total = "total" if len(known) == len(parts) else "total of the others, at least"
    return "\n".join(["memory of one process (estimated)", *rows, f"  {total:<32}{_gigabytes(sum(known)):>10}"])


def cached(plan: RunPlan, pipeline: Any, prompts: int) -> float:
    """Bytes of encoded prompts and of latents in float16, each counted if small enough to stay on the device."""
    data, denoiser = plan.config.data, denoisers.of(pipeline)
    encoded = prompts * sum(2 * value[0].numel() for value in denoiser.null(pipeline, pipeline.device).values())
    images = 0 if data.train_data_dir else data.num_images
    latents = 2 * images * math.prod(denoiser.shape(pipeline, data.resolution, data.num_frames))
    return float(sum(size for size in (encoded, latents) if size <= data.cache_memory_gb * GIGABYTE))


def activations(plan: RunPlan, pipeline: Any, student: nn.Module, half: torch.dtype | None) -> float | None:
    """Bytes that the student's forward pass keeps for the backward pass of one batch, counted on the meta device, where
    nothing is computed; None if the model cannot run there."""
    denoiser, data = denoisers.of(pipeline), plan.config.data
    shape = denoiser.shape(pipeline, data.resolution, data.num_frames)
    rows = plan.loop.batch_size
    condition = {name: value.expand(rows, *value.shape[1:]) for name, value in denoiser.null(pipeline, "cpu").items()}
    if plan.loop.guidance is not None:
        condition[GUIDANCE] = torch.ones(rows)
    saved = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal saved
        saved += tensor.numel() * tensor.element_size()
        return tensor

    bare = without_weights(student)
    own = {id(value) for value in bare.parameters()}
    try:
        with torch.device("meta"), saved_tensors_hooks(lambda x: x if id(x) in own else keep(x), lambda x: x):
            noisy = torch.empty(rows, *shape)
            denoiser(bare, noisy, torch.zeros(rows, dtype=torch.long), {k: v.to("meta") for k, v in condition.items()})
    except (RuntimeError, NotImplementedError, ValueError):
        return None  # the model reads values, which meta tensors lack; the caller prints "not estimated"
    return saved * (0.5 if half is not None else 1.0)


def _described(model: nn.Module) -> str:
    return f"{type(model).__name__}, {count(model)} parameters"


def count(model: nn.Module) -> str:
    """The number of parameters in a unit that fits: 859.5 M."""
    return in_units(sum(value.numel() for value in model.parameters()))


def in_units(number: int) -> str:
    """
    >>> in_units(859_520_964), in_units(12_345), in_units(96)
    ('859.5 M', '12.3 k', '96')
    """
    for unit_size, unit in ((10**6, "M"), (10**3, "k")):
        if number >= unit_size:
            return f"{number / unit_size:.1f} {unit}"
    return str(number)


def size(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers."""
    return sum(value.numel() * value.element_size() for value in [*model.parameters(), *model.buffers()])


def _trained(model: nn.Module) -> str:
    return in_units(sum(value.numel() for value in model.parameters() if value.requires_grad))


def _gigabytes(value: float | None) -> str:
    """
    >>> _gigabytes(1.234e9), _gigabytes(56e6), _gigabytes(None)
    ('1.23 GB', '0.06 GB', 'not estimated')
    """
    return "not estimated" if value is None else f"{value / GIGABYTE:.{2 if value > 5e6 else 4}f} GB"
