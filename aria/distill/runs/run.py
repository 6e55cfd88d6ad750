"""A run from its settings: what ``aria distill`` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aria import files, registry, whole_file
from aria.distill.engine.distiller import Distiller
from aria.distill.engine.on_policy import OnPolicy
from aria.distill.models.pipelines import open_pipeline
from aria.distill.objectives import Objective
from aria.distill.runs import assembly, card, checkpoint, output, refusals, resume
from aria.distill.settings.config import Config
from aria.distill.teachers.halving import deterministic
from aria.interfaces import Partition
from aria.progress import Bar


def run(config: Config, *, bar: Bar, quiet: bool = False) -> Distiller:
    """Open, cache, divide, train, deliver; resumed where the output folder says so."""
    refusals.check_settings(config)
    config = _with_objective(config)
    terms = [registry.resolve(term, Objective) for term in config.loss.objective]
    target = Path(config.run.output_dir)
    output.check_own(target)
    accelerator = assembly.open_accelerator(config, target, terms)
    with output.locked(target, accelerator.is_main_process), whole_file.system_errors(target):
        if accelerator.is_main_process:
            files.sweep(target)
        path, models = config.models.pretrained_model_name_or_path, config.models
        pipeline = open_pipeline(path, revision=models.revision, variant=models.variant).to(accelerator.device)
        _stage(config, pipeline, terms)
        student, teacher = assembly.open_student(config, pipeline, terms), resume.identity(pipeline)
        conditions, images = assembly.open_data(config, pipeline, accelerator, bar)
        partition = assembly.divide(config, conditions.pool(), target, accelerator)
        config = _with_on_policy(config, partition)
        distiller = assembly.build_distiller(config, pipeline, student, partition, conditions, images, accelerator)
        shared = resume.shared(config, distiller, conditions, images) | teacher
        resume.go_on(config, distiller, target, shared)
        if accelerator.is_main_process:
            config.save(target / "config.json")
        if config.run.report_to:
            accelerator.init_trackers("aria", config=_plain(config))
        distiller.fit(assembly.build_callbacks(config, pipeline, distiller, target, shared, quiet))
        if distiller.step_count == distiller.steps:
            _deliver(config, pipeline, distiller, target)
        accelerator.wait_for_everyone()
        accelerator.end_training()
    return distiller


def _with_objective(config: Config) -> Config:
    """The settings with the terms of the loss: inner layers are compared unless the teacher is asked twice."""
    if config.loss.objective:
        return config
    twice = config.conditioning.guidance is not None or config.models.halve_from is not None
    return config.with_values({"objective": ("output",) if twice else ("output", "feature")})


def _with_on_policy(config: Config, partition: Partition) -> Config:
    """The settings with the share of on-policy rows: some, unless timesteps are not theirs to choose."""
    if config.conditioning.on_policy is not None:
        return config
    free = config.models.halve_from is None and "timestep" not in getattr(partition, "coordinates", ())
    return config.with_values({"on_policy": OnPolicy.share if free else 0.0})


def _stage(config: Config, pipeline: Any, terms: list[Objective]) -> None:
    """Make the pipeline ready to be halved, and refuse what cannot be taught before anything takes long."""
    refusals.check_terms(config, terms)
    refusals.check_scales(config, pipeline)
    refusals.check_halving(config)
    if config.models.halve_from is not None:
        pipeline.register_modules(scheduler=deterministic(pipeline.scheduler))
    refusals.check_schedule(config, assembly.teaching(config, pipeline, {}))


def _plain(config: Config) -> dict[str, int | float | str]:
    return {name: value for name, value in config.flat().items() if isinstance(value, int | float | str)}


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
