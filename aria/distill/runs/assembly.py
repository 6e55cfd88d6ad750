"""The parts of a run, made from its settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, parse_flag_from_env

import aria
from aria.distill.data import Conditions, cache
from aria.distill.data.latents import Latents
from aria.distill.engine import sharding
from aria.distill.engine.distiller import Distiller
from aria.distill.engine.learner import check_repeats, same_latents
from aria.distill.engine.on_policy import OnPolicy
from aria.distill.models import taps
from aria.distill.models.denoisers import Condition
from aria.distill.models.denoisers.guidance import take_guidance
from aria.distill.models.pipelines import component_of, open_model
from aria.distill.objectives import Objective
from aria.distill.runs import checkpoint, regions
from aria.distill.runs.callbacks import Callback, Checkpoints, Grids, Log
from aria.distill.settings.config import Config, student_steps, teacher_steps
from aria.distill.students import add_low_rank, factorise, read_feature_pairs
from aria.distill.teachers.guidance import guided
from aria.distill.teachers.halving import halved
from aria.distill.teachers.teacher import Teacher
from aria.interfaces import Partition
from aria.pool import Pool
from aria.progress import Bar


def open_accelerator(config: Config, target: Path, terms: Sequence[Objective]) -> Accelerator:
    """Processes, devices and precision."""
    training, told = config.training, config.run
    torch.backends.cuda.matmul.allow_tf32 = training.allow_tf32
    partly = not any(term.by_level for term in terms)  # the layers after the last one compared are then not trained
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise ValueError("the student is divided among processes by --fsdp; launch without accelerate's --use_fsdp")
    accelerator = Accelerator(
        mixed_precision=training.mixed_precision,
        log_with=told.report_to,
        project_dir=target / told.logging_dir,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=partly)],
    )
    if training.fsdp:
        sharding.check(accelerator)
    return accelerator


def teaching(config: Config, pipeline: Any, null: Condition) -> Teacher:
    """The teacher as it is asked: with guidance, two steps at a time, both, or plainly."""
    teacher, halve_from = Teacher.of(pipeline), config.models.halve_from
    if config.conditioning.guidance is not None:
        teacher = guided(teacher, null)
    if halve_from is not None:
        teacher = halved(teacher, pipeline.scheduler, halve_from, prediction=config.models.student_prediction)
    return teacher


def open_student(config: Config, pipeline: Any, terms: Sequence[Objective]) -> Any:
    """The student, refused if it cannot be compared with the teacher."""
    models = config.models
    student, teacher = open_model(models.student), getattr(pipeline, component_of(pipeline))
    same_latents(teacher, student)
    if config.training.compile:
        check_repeats(teacher, student)
    for theirs, ours in (pair for term in terms for pair in term.pairs(_pairs(models.student))):
        taps.find(teacher, theirs)
        taps.find(student, ours)
    if models.low_rank:
        add_low_rank(student, models.low_rank)
    if models.rank_ratio:
        factorise(student, models.rank_ratio)
    if config.conditioning.guidance is not None:
        take_guidance(student)
    if models.gradient_checkpointing:
        student.enable_gradient_checkpointing()
    return student


def _pairs(student: str) -> Sequence[tuple[str, str]]:
    return read_feature_pairs(student) if (Path(student) / "student.json").is_file() else ()


def open_data(config: Config, pipeline: Any, accelerator: Accelerator, bar: Bar) -> tuple[Conditions, Latents]:
    """The cached conditions and images, made first where they are missing."""
    data, target = config.data, Path(config.run.output_dir)
    folder = Path(data.cache_dir) if data.cache_dir else target / "cache"
    if accelerator.is_main_process:
        cache.fill(
            folder,
            pipeline,
            prompts=Path(data.prompts),
            bar=bar,
            **cache.kept(folder, seed=config.training.seed),
            column=data.caption_column,
            num_images=0 if data.train_data_dir else data.num_images,
            steps=teacher_steps(config),
            guidance=data.guidance_scale,
            data=Path(data.train_data_dir) if data.train_data_dir else None,
            resolution=data.resolution,
        )
    accelerator.wait_for_everyone()
    told: dict[str, Any] = {
        "pipeline": pipeline,
        "device": accelerator.device,
        "device_budget": int(data.cache_memory_gb * 1e9),
        "host_budget": None if data.cache_ram_gb is None else int(data.cache_ram_gb * 1e9),
    }
    return Conditions(folder / "conditions", **told), Latents(folder / "latents", resolution=data.resolution, **told)


def divide(config: Config, pool: Pool, target: Path, accelerator: Accelerator) -> Partition:
    """The regions of this run: those it began with, or new ones."""
    path = target / "partition.safetensors"
    if accelerator.is_main_process and not (path.is_file() and checkpoint.folders(target)):
        divided = regions.divide(config.allocation.partitioner, pool, seed=config.training.seed)
        aria.partitioners.save(divided, path)
    accelerator.wait_for_everyone()
    return aria.partitioners.load(path).to(accelerator.device)


def build_distiller(
    config: Config,
    pipeline: Any,
    student: Any,
    partition: Partition,
    conditions: Conditions,
    images: Latents,
    accelerator: Accelerator,
) -> Distiller:
    """The engine, ready for its first step."""
    models, allocation, training = config.models, config.allocation, config.training
    sampler = aria.Sampler(
        partition,
        tracker=allocation.tracker,
        allocator=allocation.allocator,
        floor=allocation.floor,
        correction=allocation.correction,
        warmup=-(-allocation.warmup // allocation.every),  # the sampler counts its updates
        every=allocation.every,
        stratified=allocation.stratified,
        timesteps=pipeline.scheduler.config.num_train_timesteps if allocation.normalise else None,
        seed=training.seed,
    )
    return Distiller(
        teaching(config, pipeline, conditions.null(1)),
        student,
        sampler,
        images,
        conditions,
        objective=config.loss.objective,
        weighting=config.loss.weighting,
        signal=config.loss.signal,
        replacement=config.conditioning.replacement,
        null_probability=config.conditioning.null_probability,
        student_prediction=models.student_prediction,
        guidance=config.conditioning.guidance,
        on_policy=OnPolicy(config.conditioning.on_policy or 0.0, config.conditioning.on_policy_hops),
        pairs=_pairs(models.student),
        optimiser=config.optimiser,
        steps=training.max_train_steps,
        batch_size=training.train_batch_size,
        accumulation=training.gradient_accumulation_steps,
        ema_decay=training.ema_decay if training.use_ema else 0.0,
        ahead=config.data.ahead if conditions.residency != "device" else 0,
        seed=training.seed,
        fsdp=training.fsdp,
        compiled=training.compile,
        accelerator=accelerator,
    )


def build_callbacks(
    config: Config, pipeline: Any, distiller: Distiller, target: Path, settings: dict[str, Any], quiet: bool
) -> list[Callback]:
    """The log, checkpoints, and grids where prompts for them are given."""
    told = config.run
    saved = Checkpoints(
        target, every=told.checkpointing_steps, limit=told.checkpoints_total_limit, settings=settings
    )
    logs = Log(target, every=told.logging_steps, trackers=told.report_to is not None, quiet=quiet)
    if not told.validation_prompts:
        return [logs, saved]
    grids = Grids(
        pipeline,
        told.validation_prompts,
        target,
        every=told.validation_steps,
        steps=teacher_steps(config),
        student_steps=student_steps(config),
        guidance=config.data.guidance_scale,
        resolution=config.data.resolution,
        seed=config.training.seed,
        trackers=told.report_to is not None,
    )
    return [logs, grids, saved]
