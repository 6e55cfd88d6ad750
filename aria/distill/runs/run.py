"""Runs a distillation from its settings, as ``aria distill`` does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from aria import files
from aria.distill.data.prompt_files import read_prompts
from aria.distill.data.prompts import Prompts
from aria.distill.engine.distiller import Distiller
from aria.distill.engine.weights import plain
from aria.distill.models import denoisers
from aria.distill.models.pipelines import open_pipeline
from aria.distill.runs import assembly, card, output, resume
from aria.distill.runs.checks import check, check_allocation
from aria.distill.runs.plan import RunPlan, resolve
from aria.distill.runs.summary import memory, summary
from aria.distill.settings import checks
from aria.distill.settings.config import Config
from aria.progress import Bar

log = logging.getLogger(__name__)

Show = Callable[[str], None]
"""Prints the summary."""


def run(config: Config, *, bar: Bar, show: Show | None = None, quiet: bool = False) -> Distiller:
    """Open the models, fill the cache, partition the pool, resume if the settings say so, train, write the pipeline."""
    plan = decide(config)
    accelerator = assembly.open_accelerator(plan)
    first = accelerator.is_main_process
    with output.locked(plan.output, first), files.system_errors(plan.output):
        if first:
            files.sweep(plan.output)
        known = resume.known(plan, accelerator)
        start = resume.start(plan, known)
        resume.agree(start, accelerator)
        pipeline, student = open_models(plan, accelerator)
        if first and show is not None:
            show(summary(plan, pipeline, student, _prompts(plan), accelerator, start))
        identity = resume.teacher_identity(pipeline)
        digest = None if start is None else start.index["settings"].get(resume.DIGEST)
        conditions, images = assembly.open_data(plan, pipeline, accelerator, bar, digest)
        partition = assembly.divide(plan, conditions, accelerator)
        sampler = assembly.build_sampler(plan, partition, pipeline.scheduler.config.num_train_timesteps)
        teacher = plan.teacher(pipeline, conditions.null(1))
        distiller = Distiller(teacher, student, sampler, images, conditions, plan.loop, accelerator=accelerator)
        settings = known | identity | resume.opened(distiller, conditions, images)
        if start is not None:
            start.load(distiller.state(), settings=settings)
            log.info("resuming from %s", start.folder)
        if first:
            plan.config.save(plan.output / "config.json")
        if plan.config.run.report_to:
            accelerator.init_trackers("aria", config=_plain(plan.config))
        distiller.fit(assembly.build_callbacks(plan, pipeline, distiller, settings, quiet))
        if distiller.step_count == distiller.steps:
            _deliver(plan, pipeline, distiller)
        accelerator.wait_for_everyone()
        accelerator.end_training()
    return distiller


def dry_run(config: Config) -> str:
    """The summary of a run with an estimate of its memory; nothing is written."""
    plan = decide(config)
    accelerator = assembly.open_accelerator(plan)
    start = resume.start(plan, resume.known(plan, accelerator))
    pipeline, student = open_models(plan, accelerator)
    prompts = _prompts(plan)
    lines = summary(plan, pipeline, student, prompts, accelerator, start)
    return f"{lines}\n\n{memory(plan, pipeline, student, prompts, accelerator)}"


def decide(config: Config) -> RunPlan:
    """The plan of a run, after all checks that do not need the models."""
    checks.check(config)
    plan = resolve(config)
    check_allocation(plan)
    output.check_own(plan.output)
    files.refuse_links(plan.cache)
    return plan


def open_models(plan: RunPlan, accelerator: Accelerator) -> tuple[Any, Any]:
    """The teacher's pipeline and the student, checked against the plan and each other."""
    models = plan.config.models
    path = models.pretrained_model_name_or_path
    pipeline = open_pipeline(path, revision=models.revision, variant=models.variant).to(accelerator.device)
    plan.with_scheduler(pipeline)
    student = assembly.open_student(plan)
    check(plan, pipeline, student)
    return pipeline, assembly.make_trainable(plan, student)


def _prompts(plan: RunPlan) -> Prompts:
    return read_prompts(Path(plan.config.data.prompts), column=plan.config.data.caption_column)


def _plain(config: Config) -> dict[str, int | float | str]:
    return {name: value for name, value in config.flat().items() if isinstance(value, int | float | str)}


def _deliver(plan: RunPlan, pipeline: Any, distiller: Distiller) -> None:
    """Write the finished pipeline, with the averaged weights if there are any."""
    with distiller.averaged():
        student = distiller.whole_student()
        if distiller.accelerator.is_main_process:
            output.deliver(
                pipeline,
                distiller.component,
                plain(student),
                plan.output,
                card.write(plan, distiller, denoisers.of(pipeline)),
                prediction=plan.loop.student_prediction,
            )
