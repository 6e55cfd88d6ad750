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


class ModelOutput(NamedTuple):
    """The output of a model and the features inside it."""

    output: Tensor
    """(B, …) the denoiser's output, in the teacher's prediction type."""
    features: tuple[Tensor, ...]
    """(B, …) each, the outputs of the compared layers; the student's projected to the teacher's widths."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """The inputs of both models."""

    clean: Tensor
    """(B, …) latents without noise."""
    noise: Tensor
    """(B, …) the noise."""
    noisy: Tensor
    """(B, …) the noised latents, which the models take."""
    timestep: Tensor
    """(B,) the noise levels."""
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
    """Zero for samples whose condition was replaced: there is no ground truth for them."""
    outputs_only: ClassVar[bool] = False
    """Whether it compares the two outputs only, so that any way of computing the teacher's will do."""
    one_pass: ClassVar[bool] = False
    """Whether it compares what is inside of one forward pass as well, and nothing but the two models."""

    def __post_init__(self) -> None:
        checks.non_negative("weight", self.weight)

    def pairs(self, default: Pairs) -> Pairs:
        """The layers it compares; ``default`` are those the student's folder names."""
        return ()

    def check_outputs_only(self, *, one_pass: bool = False) -> None:
        """Refuse a guided or halved teacher, unless this term compares outputs only; or, where it takes the guidance
        scale as an input and needs ``one_pass``, unless this term compares the two models only."""
        if not (self.outputs_only or (one_pass and self.one_pass)):
            name = type(self).__name__.lower()
            raise ValueError(
                f"a guided or halved teacher is compared by its output: leave {name} out of the objective, "
                "as --objective output does"
            )

    @abstractmethod
    def __call__(self, inputs: Inputs, teacher: ModelOutput, student: ModelOutput) -> Tensor:
        """(B,) loss of each sample."""


def per_sample(error: Tensor) -> Tensor:
    """(B,) mean square over everything but the batch, in float32."""
    return error.float().square().flatten(1).mean(1)
