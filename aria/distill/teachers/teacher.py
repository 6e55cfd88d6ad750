"""The teacher: a model, how it is evaluated, and what its output means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from aria import checks
from aria.distill.models import denoisers
from aria.distill.models.denoisers import Ask
from aria.distill.models.pipelines import component_of
from aria.distill.models.schedule import NoiseSchedule, Timed, prediction_of
from aria.distill.objectives import Objective
from aria.distill.settings.choices import PREDICTIONS


@dataclass(frozen=True, eq=False)
class Teacher:
    """All that the engine needs of a pipeline. One that is not of diffusers is put together by hand."""

    model: nn.Module
    """The denoising model; the engine freezes it."""
    denoiser: Ask
    """Its forward pass: the adapter of its family."""
    schedule: NoiseSchedule
    """Its noise levels."""
    prediction: str
    """What it predicts, in diffusers' words."""
    component: str = "student"
    """What a pipeline calls the student's model, and so the folder that holds it."""
    ask: Ask | None = None
    """The teacher's forward pass where it differs from the student's: guided, or two steps at a time."""
    timesteps: Tensor | None = None
    """(n,) those at which it is evaluated, if not all."""
    plain: bool = True
    """Whether an output is one forward pass at one timestep, so that layers and the true noise can be compared too."""
    terms: tuple[Objective, ...] = ()
    """What every student of a plain teacher is trained with, whatever else: its family's terms of the loss."""

    def __post_init__(self) -> None:
        checks.one_of("prediction", self.prediction, PREDICTIONS)

    @classmethod
    def of(cls, pipeline: Any) -> Teacher:
        """The teacher in a diffusers pipeline."""
        denoiser, component = denoisers.of(pipeline), component_of(pipeline)
        schedule, prediction = NoiseSchedule.of(pipeline.scheduler), prediction_of(pipeline.scheduler)
        model = getattr(pipeline, component)
        ask: Ask = denoiser if schedule.time is None else Timed(denoiser, schedule.time)
        return cls(model, ask, schedule, prediction, component, terms=denoiser.terms(model))
