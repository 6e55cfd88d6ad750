"""Checks of a run's models and allocation, before anything that takes long."""

from __future__ import annotations

from typing import Any

from aria import registry
from aria.checks import InvalidSetting
from aria.distill.engine.learner import check_pair
from aria.distill.models import denoisers
from aria.distill.models.denoisers.guidance import is_open
from aria.distill.models.pipelines import component_of
from aria.distill.runs import regions
from aria.distill.runs.plan import RunPlan
from aria.interfaces import Allocator, Tracker


def check_allocation(plan: RunPlan) -> None:
    """Refuse a tracker, an allocator or a partitioner that does not exist."""
    allocation = plan.config.allocation
    registry.resolve(allocation.tracker, Tracker)
    registry.resolve(allocation.allocator, Allocator)
    regions.check(allocation.partitioner)


def check(plan: RunPlan, pipeline: Any, student: Any) -> None:
    """Refuse a teacher and a student that cannot be trained as planned."""
    _check_scales(plan, pipeline, student)
    teacher = plan.teacher(pipeline, {})
    check_pair(teacher, student, plan.loop.objective, plan.loop)


def _check_scales(plan: RunPlan, pipeline: Any, student: Any) -> None:
    """Refuse guidance that the models cannot take, and a scale for images that they are not trained for."""
    config, scales = plan.config, plan.loop.guidance
    data, teacher_takes = config.data, is_open(getattr(pipeline, component_of(pipeline)))
    validates, generates = bool(config.run.validation_prompts), not data.train_data_dir
    unguided = denoisers.of(pipeline).unguided
    use = f"guidance_scale={data.guidance_scale:g}, used for {'validation' if validates else 'training'} images,"
    if scales is None and (teacher_takes or is_open(student)):
        who = "teacher" if teacher_takes else "student"
        raise InvalidSetting(
            "guidance_max", "missing", f"the {who} takes the guidance scale as an input: guidance_max is needed"
        )
    if scales is None and plan.halved and validates and data.guidance_scale != unguided:
        raise InvalidSetting(
            "guidance_scale",
            "conflict",
            f"{use} is not a scale that the student of halve_from={config.models.halve_from} is trained for: without "
            f"guidance_max, use guidance_scale={unguided:g}",
        )
    if scales is None:
        return
    if not denoisers.of(pipeline).takes_guidance:
        raise InvalidSetting(
            "guidance_max",
            "conflict",
            f"the models of a {type(pipeline).__name__} cannot take the guidance scale as an input",
        )
    if (validates or (teacher_takes and generates)) and not scales[0] <= data.guidance_scale <= scales[1]:
        who = "student" if validates else "teacher"
        raise InvalidSetting(
            "guidance_scale",
            "conflict",
            f"{use} is outside the range that the {who} takes, {scales[0]:g} to {scales[1]:g}",
        )
