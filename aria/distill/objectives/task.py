"""The ordinary denoising loss, without the teacher."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from aria.distill.objectives.base import Answer, Objective, Shown, per_sample


@dataclass(frozen=True)
class Task(Objective):
    """The ordinary denoising loss. It counts only for latents with their own condition: under a replaced one
    the true noise is not the ground truth.

    >>> Task(weight=0.5).weight
    0.5
    """

    by_level = True
    matched_only = True

    def __call__(self, shown: Shown, teacher: Answer, student: Answer) -> Tensor:
        target = shown.schedule.target(shown.prediction, shown.clean, shown.noise, shown.timestep)
        return per_sample(student.output - target) * shown.matched
