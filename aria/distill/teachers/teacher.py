"""The teacher: a model, its forward pass, its noise schedule and its prediction type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from aria import checks
from aria.distill.models import denoisers
from aria.distill.models.denoisers import Evaluate
from aria.distill.models.denoisers.guidance import Guide, classifier_free
from aria.distill.models.pipelines import component_of
from aria.distill.models.schedule import NoiseSchedule, Timed, prediction_of
from aria.distill.objectives import Objective
from aria.distill.settings.choices import PREDICTIONS


def nothing(model: Any) -> tuple[nn.Module, ...]:
    """No module of ``model``."""
    return ()


@dataclass(frozen=True, eq=False)
class Teacher:
    """Everything that the engine needs from a pipeline; :meth:`of` extracts it from a diffusers pipeline."""

    model: nn.Module
    """The denoising model; the engine freezes it."""
    denoiser: Evaluate
    """The adapter of the model's family, which does its forward pass."""
    schedule: NoiseSchedule
    """The noise levels."""
    prediction: str
    """The prediction type, as diffusers names it."""
    component: str = "student"
    """The name of the denoising model in a pipeline, and therefore of its folder."""
    evaluate: Evaluate | None = None
    """The teacher's forward pass if it differs from the student's: guided, or two steps at a time."""
    timesteps: Tensor | None = None
    """(n,) the timesteps at which it is evaluated; all if None."""
    plain: bool = True
    """Whether an output is one forward pass at one timestep, so that features and the true noise are comparable too;
    features also are where it is guided by an input, and ``evaluate`` is None."""
    guide: Guide = classifier_free
    """How outputs with and without the condition are combined where it is guided by the null condition."""
    idle: Callable[[Any], tuple[nn.Module, ...]] = nothing
    """Modules of a student on which its output does not depend."""
    terms: tuple[Objective, ...] = ()
    """Terms of the loss that the model's family always adds if the teacher is plain."""

    def __post_init__(self) -> None:
        checks.one_of("prediction", self.prediction, PREDICTIONS)

    @classmethod
    def of(cls, pipeline: Any) -> Teacher:
        """The teacher in a diffusers pipeline."""
        denoiser, component = denoisers.of(pipeline), component_of(pipeline)
        schedule, prediction = NoiseSchedule.of(pipeline.scheduler), prediction_of(pipeline.scheduler)
        model = getattr(pipeline, component)
        evaluate: Evaluate = denoiser if schedule.time is None else Timed(denoiser, schedule.time)
        own: dict[str, Any] = {"guide": denoiser.guide, "idle": denoiser.idle, "terms": denoiser.terms(model)}
        return cls(model, evaluate, schedule, prediction, component, **own)
