"""What judges generated images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor


class Scorer(ABC):
    """Scores images that a model made of prompts. Models are loaded when a scorer is first used."""

    @abstractmethod
    def scores(self, prompts: Sequence[str], images: Tensor, teacher: Tensor) -> Mapping[str, Tensor]:
        """By name, (N,) scores of ``images`` (N, 3, H, W) in [0, 1]; ``teacher`` are the teacher's for the same prompts
        and noise. NaN where a score is not defined for a prompt. Higher is better."""
