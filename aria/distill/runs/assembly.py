"""Builds the parts of a run from its plan."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, gather_object, parse_flag_from_env

import aria
from aria.distill.data import Conditions, cache
from aria.distill.data.latents import IMAGES, SAMPLES, Latents
from aria.distill.engine import sharding
from aria.distill.engine.distiller import Distiller
from aria.distill.models.denoisers.guidance import take_guidance
from aria.distill.models.pipelines import open_model
from aria.distill.runs import checkpoint, regions
from aria.distill.runs.callbacks import Callback, Checkpoints, Grids, Log
from aria.distill.runs.plan import RunPlan
from aria.distill.students import add_low_rank, factorise
from aria.interfaces import Partition
from aria.progress import Bar


def open_accelerator(plan: RunPlan) -> Accelerator:
    """The accelerator: processes, device and precision."""
    training, run = plan.config.training, plan.config.run
    torch.backends.cuda.matmul.allow_tf32 = training.allow_tf32
    # without a term on outputs, layers after the last compared one get no gradient
    partly = not any(term.by_level for term in plan.loop.objective)
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise ValueError("--fsdp shards the student across processes: launch without accelerate's --use_fsdp")
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # else accelerate ignores the processes that torchrun has started
        mixed_precision=training.mixed_precision,
        log_with=run.report_to,
        project_dir=plan.output / run.logging_dir,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=partly)],
    )
    started = int(os.environ.get("WORLD_SIZE", 1))
    if accelerator.num_processes != started:
        raise ValueError(
            f"{started} processes were started (WORLD_SIZE), and accelerate takes part in {accelerator.num_processes}: "
            "start them with torchrun or accelerate launch"
        )
    if training.fsdp:
        sharding.check(accelerator)
    return accelerator


def open_student(plan: RunPlan) -> Any:
    """The student as it will be delivered."""
    return open_model(plan.config.models.student)


def make_trainable(plan: RunPlan, student: Any) -> Any:
    """The student with the layers that train: adapters, factors, an input for the guidance scale."""
    models = plan.config.models
    if models.low_rank:
        add_low_rank(student, models.low_rank)
    if models.rank_ratio:
        factorise(student, models.rank_ratio)
    if plan.loop.guidance is not None:
        take_guidance(student)
    if models.gradient_checkpointing:
        student.enable_gradient_checkpointing()
    return student


def fill_cache(plan: RunPlan, pipeline: Any, bar: Bar, *, digest: str | None = None) -> str:
    """Encode the prompts, and generate or encode the images, unless they are in the cache; return the digest of the
    prompts. If ``digest`` is given, others are refused."""
    data = plan.config.data
    record = cache.fill(
        plan.cache,
        pipeline,
        prompts=Path(data.prompts),
        bar=bar,
        column=data.caption_column,
        num_images=0 if data.train_data_dir else data.num_images,
        steps=plan.teacher_steps,
        guidance=data.guidance_scale,
        data=Path(data.train_data_dir) if data.train_data_dir else None,
        resolution=data.resolution,
        frames=data.num_frames,
        seed=plan.loop.seed,
        adopt=True,
        digest=digest,
    )
    return str(record["prompts"]["digest"])


def open_data(
    plan: RunPlan, pipeline: Any, accelerator: Accelerator, bar: Bar, digest: str | None = None
) -> tuple[Conditions, Latents]:
    """The cached conditions, and as many images as the run asks for; the first rank fills the cache. If another process
    changes it before all ranks have opened it, all of them refuse it."""
    data, filled = plan.config.data, []
    if accelerator.is_main_process:
        filled = [fill_cache(plan, pipeline, bar, digest=digest)]
    accelerator.wait_for_everyone()
    own = {"source": IMAGES} if data.train_data_dir else {"source": SAMPLES, "num_images": data.num_images}
    kwargs: dict[str, Any] = {
        "pipeline": pipeline,
        "device": accelerator.device,
        "device_budget": int(data.cache_memory_gb * 1e9),
        "host_budget": None if data.cache_ram_gb is None else int(data.cache_ram_gb * 1e9),
    }
    kwargs |= {"resolution": data.resolution, "frames": data.num_frames}
    conditions, images = cache.opened(plan.cache, **own, **kwargs)
    found = [(one, len(images)) for one in [*filled, conditions.prompts.digest()]]
    if len(set(gather_object(found))) > 1:
        raise ValueError(f"another process has changed {plan.cache} since it was filled: run again")
    return conditions, images


def divide(plan: RunPlan, conditions: Conditions, accelerator: Accelerator) -> Partition:
    """The regions of this run: the saved ones if it is resumed, else new ones."""
    path = plan.output / regions.FILE
    if accelerator.is_main_process and not (path.is_file() and checkpoint.folders(plan.output)):
        own = plan.config.allocation
        made = regions.divide(own.partitioner, conditions.pool(), target=own.target, seed=plan.loop.seed)
        regions.save_prompts(plan.output, conditions.prompts.texts)
        aria.partitioners.save(made, path)
    accelerator.wait_for_everyone()
    return aria.partitioners.load(path).to(accelerator.device)


def build_sampler(plan: RunPlan, partition: Partition, timesteps: int) -> aria.Sampler:
    """The sampler over these regions, for a noise schedule of ``timesteps`` levels."""
    allocation = plan.config.allocation
    return aria.Sampler(
        partition,
        tracker=allocation.tracker,
        allocator=allocation.allocator,
        floor=allocation.floor,
        correction=allocation.correction,
        warmup=-(-allocation.warmup // allocation.every),  # the sampler counts updates, not steps
        every=allocation.every,
        stratified=allocation.stratified,
        timesteps=timesteps if allocation.normalise else None,
        seed=plan.loop.seed,
    )


def build_callbacks(
    plan: RunPlan, pipeline: Any, distiller: Distiller, settings: dict[str, Any], quiet: bool
) -> list[Callback]:
    """The log, checkpoints and, if there are validation prompts, validation images."""
    run, data = plan.config.run, plan.config.data
    trackers = run.report_to is not None
    checkpoints = Checkpoints(
        plan.output, every=run.checkpointing_steps, limit=run.checkpoints_total_limit, settings=settings
    )
    log = Log(plan.output, every=run.logging_steps, trackers=trackers, quiet=quiet)
    if not run.validation_prompts:
        return [log, checkpoints]
    grids = Grids(
        pipeline,
        run.validation_prompts,
        plan.output,
        every=run.validation_steps,
        steps=plan.teacher_steps,
        student_steps=plan.student_steps,
        guidance=data.guidance_scale,
        resolution=data.resolution,
        frames=data.num_frames,
        seed=plan.loop.seed,
        trackers=trackers,
    )
    return [log, grids, checkpoints]
