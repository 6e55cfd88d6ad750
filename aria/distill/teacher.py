"""The teacher: a model, how it is asked, and what its answers mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from aria import checks
from aria.distill import denoisers
from aria.distill.denoisers import Ask
from aria.distill.pipelines import component_of
from aria.distill.schedule import PREDICTIONS, NoiseSchedule


@dataclass(frozen=True, eq=False)
class Teacher:
    """All that the engine needs of a pipeline. One that is not of diffusers is put together by hand."""

    model: nn.Module
    """The denoising model; the engine freezes it."""
    denoiser: Ask
    """How it is asked: the adapter of its family."""
    schedule: NoiseSchedule
    """Its noise levels."""
    prediction: str
    """What it predicts, in diffusers' words."""
    component: str = "student"
    """What a pipeline calls the student's model, and so the folder that holds it."""

    def __post_init__(self) -> None:
        checks.one_of("prediction", self.prediction, PREDICTIONS)

    @classmethod
    def of(cls, pipeline: Any) -> Teacher:
        """The teacher in a diffusers pipeline."""
        denoiser, component = denoisers.of(pipeline), component_of(pipeline)
        schedule, prediction = NoiseSchedule.of(pipeline.scheduler), pipeline.scheduler.config.prediction_type
        return cls(getattr(pipeline, component), denoiser, schedule, prediction, component)
