"""A run from its settings: what ``aria distill`` does."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, parse_flag_from_env

import aria
from aria import registry
from aria.distill import cache, card, checkpoint, denoisers, files, output, regions, sharding, taps
from aria.distill.callbacks import Callback, Checkpoints, Grids, Log
from aria.distill.conditions import Conditions, fingerprint
from aria.distill.config import Config
from aria.distill.denoisers import Condition
from aria.distill.denoisers.guidance import take_guidance, width_of
from aria.distill.distiller import Distiller
from aria.distill.guidance import guided
from aria.distill.halving import deterministic, halved
from aria.distill.latents import Latents
from aria.distill.learner import check_repeats, same_latents
from aria.distill.objectives import Objective, Weighting
from aria.distill.on_policy import OnPolicy
from aria.distill.pipelines import component_of, open_model, open_pipeline
from aria.distill.replacement import Replacement
from aria.distill.students import add_low_rank, factorise, read_feature_pairs
from aria.distill.teacher import Teacher
from aria.interfaces import Partition
from aria.pool import Pool

log = logging.getLogger(__name__)

FREE = {
    "output_dir", "resume_from_checkpoint", "max_train_steps", "train_batch_size", "gradient_accumulation_steps",
    "checkpointing_steps", "checkpoints_total_limit", "logging_steps", "report_to", "logging_dir",
    "validation_prompts", "validation_steps", "cache_dir", "cache_memory_gb", "pretrained_model_name_or_path",
    "student", "prompts", "train_data_dir", "cache_ram_gb", "gradient_checkpointing", "fsdp",
}  # fmt: skip
"""Settings that may change when a run is resumed: they do not enter the arithmetic, or what they name is compared."""


def run(config: Config, *, bar: cache.Bar, quiet: bool = False) -> Distiller:
    """Open, cache, divide, train, deliver; resumed where the output folder says so."""
    target = _required(config)
    terms = _plugins(config)
    accelerator = _accelerator(config, target, terms)
    with output.locked(target, accelerator.is_main_process), files.system_errors(target):
        if accelerator.is_main_process:
            files.sweep(target)
        pipeline = open_pipeline(
            config.models.pretrained_model_name_or_path, revision=config.models.revision, variant=config.models.variant
        ).to(accelerator.device)
        _stage(config, pipeline, terms)
        student, teacher = _student(config, pipeline, terms), _teacher(pipeline)
        conditions, images = _data(config, pipeline, accelerator, bar)
        partition = _partition(config, conditions.pool(), target, accelerator)
        config = _settled(config, partition)
        distiller = _distiller(config, pipeline, student, partition, conditions, images, accelerator)
        settings = _fingerprint(config, distiller) | teacher | _cached(conditions, images)
        _resume(config, distiller, target, settings)
        if accelerator.is_main_process:
            config.save(target / "config.json")
        if config.run.report_to:
            accelerator.init_trackers("aria", config=_plain(config))
        distiller.fit(_callbacks(config, pipeline, distiller, target, settings, quiet))
        if distiller.step_count == distiller.steps:
            _deliver(config, pipeline, distiller, target)
        accelerator.wait_for_everyone()
        accelerator.end_training()
    return distiller


def _required(config: Config) -> Path:
    flat = config.flat()
    for name in ("pretrained_model_name_or_path", "student", "prompts", "output_dir"):
        if not flat[name]:
            raise ValueError(f"--{name} is missing: {config.help(name)}")
    if not (config.data.num_images or config.data.train_data_dir):
        raise ValueError("there is nothing to noise: num_images must be at least 1, or train_data_dir given")
    return Path(flat["output_dir"])


def _plugins(config: Config) -> list[Objective]:
    """The terms of the loss. Everything named in the settings is looked up now, before anything takes long."""
    allocation = config.allocation
    registry.tracker(allocation.tracker)
    registry.allocator(allocation.allocator)
    regions.check(allocation.partitioner)
    registry.resolve(config.loss.weighting, Weighting)
    registry.resolve(config.conditioning.replacement, Replacement)
    known = {str(kind) for kind in get_available_trackers()}
    if config.run.report_to not in {None, *known}:
        raise ValueError(
            f"report_to={config.run.report_to!r} is not installed; there {'are' if known else 'is'} "
            f"{', '.join(sorted(known)) or 'nothing'}"
        )
    return [registry.resolve(term, Objective) for term in config.loss.objective]


def _accelerator(config: Config, target: Path, terms: Sequence[Objective]) -> Accelerator:
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


def _plain(config: Config) -> dict[str, int | float | str]:
    return {name: value for name, value in config.flat().items() if isinstance(value, int | float | str)}


def _stage(config: Config, pipeline: Any, terms: Sequence[Objective]) -> None:
    """Make the pipeline ready to be halved, and refuse what cannot be taught before anything takes long."""
    models, halved_from = config.models, config.models.halve_from is not None
    if config.conditioning.guidance is not None or halved_from:
        for term in terms:
            term.check_asked_twice()
    _check_scales(config, pipeline)
    if halved_from and config.conditioning.on_policy:
        raise ValueError("on_policy rows choose their timesteps themselves, which halve_from decides: give one of them")
    if halved_from:
        pipeline.register_modules(scheduler=deterministic(pipeline.scheduler))
    teacher = _teaching(config, pipeline, {})
    teacher.schedule.check_conversion(models.student_prediction or teacher.prediction, teacher.prediction)
    registry.resolve(config.loss.weighting, Weighting).table(teacher.schedule, teacher.prediction)


def _check_scales(config: Config, pipeline: Any) -> None:
    """Refuse guidance that the models cannot be told, and a scale for images or grids that they never learn."""
    scales, data, models = config.conditioning.guidance, config.data, config.models
    takes = width_of(getattr(pipeline, component_of(pipeline))) is not None
    drawn, sampled = bool(config.run.validation_prompts), not data.train_data_dir
    shown = f"guidance_scale={data.guidance_scale:g}, with which {'grids' if drawn else 'images'} are drawn, is"
    if scales is None and takes:
        raise ValueError("the teacher takes the guidance scale as an input: say up to which, guidance_max")
    if scales is None and models.halve_from is not None and drawn and data.guidance_scale != 1:
        raise ValueError(
            f"{shown} none that the student of halve_from={models.halve_from} is trained for: without guidance_max it "
            "is that of guidance_scale=1"
        )
    if scales is None:
        return
    if not denoisers.of(pipeline).takes_guidance:
        raise ValueError(f"the models of a {type(pipeline).__name__} cannot take the guidance scale as an input")
    if (drawn or (takes and sampled)) and not scales[0] <= data.guidance_scale <= scales[1]:
        told = "student" if drawn else "teacher"
        raise ValueError(f"{shown} none that the {told} is told: guidance is from {scales[0]:g} to {scales[1]:g}")


def _settled(config: Config, partition: Partition) -> Config:
    """The settings with what was left open: on-policy rows, unless timesteps are not theirs to choose."""
    if config.conditioning.on_policy is not None:
        return config
    free = config.models.halve_from is None and "timestep" not in getattr(partition, "coordinates", ())
    return config.with_values({"on_policy": OnPolicy.share if free else 0.0})


def _teaching(config: Config, pipeline: Any, null: Condition) -> Teacher:
    """The teacher as it is asked: with guidance, two steps at a time, both, or plainly."""
    teacher, halve_from = Teacher.of(pipeline), config.models.halve_from
    if config.conditioning.guidance is not None:
        teacher = guided(teacher, null)
    if halve_from is not None:
        teacher = halved(teacher, pipeline.scheduler, halve_from, prediction=config.models.student_prediction)
    return teacher


def _student(config: Config, pipeline: Any, terms: Sequence[Objective]) -> Any:
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


def _teacher(pipeline: Any) -> dict[str, Any]:
    """What a resumed run's teacher must share, before the engine turns it to the precision of the run."""
    return fingerprint.model(pipeline, getattr(pipeline, component_of(pipeline)), torch.float32)


def _data(config: Config, pipeline: Any, accelerator: Accelerator, bar: cache.Bar) -> tuple[Conditions, Latents]:
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
            steps=config.steps,
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


def _partition(config: Config, pool: Pool, target: Path, accelerator: Accelerator) -> Partition:
    """The regions of this run: those it began with, or new ones."""
    path = target / "partition.safetensors"
    if accelerator.is_main_process and not (path.is_file() and checkpoint.folders(target)):
        divided = regions.divide(config.allocation.partitioner, pool, seed=config.training.seed)
        aria.partitioners.save(divided, path)
    accelerator.wait_for_everyone()
    return aria.partitioners.load(path).to(accelerator.device)


def _distiller(
    config: Config,
    pipeline: Any,
    student: Any,
    partition: Partition,
    conditions: Conditions,
    images: Latents,
    accelerator: Accelerator,
) -> Distiller:
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
        _teaching(config, pipeline, conditions.null(1)),
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


def _pairs(student: str) -> Sequence[tuple[str, str]]:
    return read_feature_pairs(student) if (Path(student) / "student.json").is_file() else ()


def _fingerprint(config: Config, distiller: Distiller) -> dict[str, Any]:
    """The settings that a resumed run must share."""
    ranks = distiller.accelerator.num_processes
    told = {name: value for name, value in config.flat().items() if name not in FREE}
    if not config.optimiser.lr_scheduler.startswith("constant"):
        told["max_train_steps"] = distiller.steps  # the learning rate falls towards the last step
    told["mixed_precision"] = distiller.accelerator.mixed_precision
    told["samples of a step"] = distiller.batch_size * distiller.accumulation * ranks
    told["ahead"] = distiller.batches.ahead
    told["layers compared"] = [list(pair) for pair in distiller.pairs]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}


def _cached(conditions: Conditions, images: Latents) -> dict[str, Any]:
    """What a resumed run's conditions and images must share, wherever they lie."""
    told = {"prompts with captions": len(conditions), "their texts": conditions.prompts.texts.digest()}
    told["images"] = len(images)
    stores = {"conditions": conditions.store, "images": images.store}
    return told | {f"{name}: {part}": value for name, s in stores.items() for part, value in s.fingerprint.items()}


def _resume(config: Config, distiller: Distiller, target: Path, settings: dict[str, Any]) -> None:
    told = config.run.resume_from_checkpoint or "none"
    if told == "none":
        if checkpoint.folders(target):
            raise ValueError(
                f"{target} holds checkpoints of an earlier run: resume it (--resume_from_checkpoint latest), "
                "remove them or choose another folder"
            )
        return
    found = checkpoint.latest(target) if told == "latest" else _named(told, target)
    if found is None:
        return
    checkpoint.load(distiller, found, settings=settings)
    newer = [folder for folder in checkpoint.folders(target) if checkpoint.step_of(folder) > distiller.step_count]
    if newer and told != "latest":
        raise ValueError(f"{newer[-1]} is newer than {told}: remove it first, or go on elsewhere")
    log.info("going on from %s", found)


def _named(told: str, target: Path) -> Path:
    """A checkpoint by its path, or by its name in the output folder."""
    return target / told if (target / told).is_dir() else Path(told)


def _callbacks(
    config: Config, pipeline: Any, distiller: Distiller, target: Path, settings: dict[str, Any], quiet: bool
) -> list[Callback]:
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
        steps=config.steps,
        student_steps=config.student_steps,
        guidance=config.data.guidance_scale,
        resolution=config.data.resolution,
        seed=config.training.seed,
        trackers=told.report_to is not None,
    )
    return [logs, grids, saved]


def _deliver(config: Config, pipeline: Any, distiller: Distiller, target: Path) -> None:
    """The finished pipeline, with the averaged weights where there are any."""
    with distiller.averaged():
        student = distiller.whole_student()
        if distiller.accelerator.is_main_process:
            output.deliver(
                pipeline,
                distiller.component,
                checkpoint.plain(student),
                target,
                card.write(config, distiller, target),
                prediction=config.models.student_prediction,
            )
