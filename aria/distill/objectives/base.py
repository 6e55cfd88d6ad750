"""What is minimised: terms that give one loss per sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from aria import checks
from aria.distill.models.schedule import NoiseSchedule

Pairs = Sequence[tuple[str, str]]
"""Layers to be compared: (teacher's module name, student's module name)."""


class Answer(NamedTuple):
    """What a model said."""

    output: Tensor
    """(B, …) the denoiser's output, in the teacher's prediction type."""
    features: tuple[Tensor, ...]
    """(B, …) each, what was tapped; the student's projected to the teacher's widths."""


@dataclass(frozen=True, eq=False)
class Shown:
    """What both models were shown."""

    clean: Tensor
    """(B, …) latents without noise."""
    noise: Tensor
    """(B, …) the noise."""
    noisy: Tensor
    """(B, …) their mixture."""
    timestep: Tensor
    """(B,) how noisy."""
    matched: Tensor
    """(B,) whether the condition is the latent's own."""
    schedule: NoiseSchedule
    """The teacher's noise schedule."""
    prediction: str
    """What the outputs predict."""


@dataclass(frozen=True)
class Objective(ABC):
    """One term of the loss. A frozen dataclass: settings only."""

    weight: float = 1.0
    """Its share of the total."""

    by_level: ClassVar[bool] = False
    """Whether the run's weighting by noise level applies to it."""
    matched_only: ClassVar[bool] = False
    """Whether it is 0 for want of an answer where a latent is shown with another condition than its own."""
    answers_only: ClassVar[bool] = False
    """Whether it looks at the two outputs alone, whatever the teacher did to come to its own."""

    def __post_init__(self) -> None:
        checks.non_negative("weight", self.weight)

    def pairs(self, default: Pairs) -> Pairs:
        """The layers it compares; ``default`` are those the student's folder names."""
        return ()

    def check_asked_twice(self) -> None:
        """Refuse a teacher that is guided or halved, unless outputs are all this term looks at."""
        if not self.answers_only:
            name = type(self).__name__.lower()
            raise ValueError(
                f"a guided or halved teacher is compared by its output: leave {name} out of the objective, "
                "as --objective output does"
            )

    @abstractmethod
    def __call__(self, shown: Shown, teacher: Answer, student: Answer) -> Tensor:
        """(B,) loss of each sample."""


def per_sample(error: Tensor) -> Tensor:
    """(B,) mean square over everything but the batch, in float32."""
    return error.float().square().flatten(1).mean(1)
