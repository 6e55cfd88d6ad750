"""What a run refuses before anything takes long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accelerate.tracking import get_available_trackers

from aria import registry
from aria.distill.engine.replacement import Replacement
from aria.distill.models import denoisers
from aria.distill.models.denoisers.guidance import width_of
from aria.distill.models.pipelines import component_of
from aria.distill.objectives import Objective, Weighting
from aria.distill.runs import regions
from aria.distill.settings import local
from aria.distill.settings.config import Config
from aria.distill.teachers.teacher import Teacher


def check_settings(config: Config) -> None:
    """Refuse what is missing, and names that name nothing."""
    local.check(config)
    if not (config.data.num_images or config.data.train_data_dir):
        raise ValueError("there is nothing to noise: num_images must be at least 1, or train_data_dir given")
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


def check_terms(config: Config, terms: Sequence[Objective]) -> None:
    """Refuse terms of the loss that compare more than answers, where the teacher is asked twice for one."""
    if config.conditioning.guidance is not None or config.models.halve_from is not None:
        for term in terms:
            term.check_asked_twice()


def check_scales(config: Config, pipeline: Any) -> None:
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


def check_halving(config: Config) -> None:
    """Refuse on-policy rows where each step of the teacher's sampler is halved."""
    if config.models.halve_from is not None and config.conditioning.on_policy:
        raise ValueError("on_policy rows choose their timesteps themselves, which halve_from decides: give one of them")


def check_schedule(config: Config, teacher: Teacher) -> None:
    """Refuse a student's prediction or a weighting that the noise schedule cannot express."""
    teacher.schedule.check_conversion(config.models.student_prediction or teacher.prediction, teacher.prediction)
    registry.resolve(config.loss.weighting, Weighting).table(teacher.schedule, teacher.prediction)
