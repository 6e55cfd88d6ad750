"""Models generate from the same prompts and the same noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from aria.distill.evaluation import grids

DECODED = 32
"""Number of images decoded at a time."""


class Examiner:
    """The prompts of an evaluation, encoded by the teacher's pipeline, and the noise from which every model starts."""

    def __init__(
        self,
        pipeline: Any,
        prompts: Sequence[str],
        *,
        guidance: float,
        seed: int,
        resolution: int | None = None,
        frames: int | None = None,
    ) -> None:
        from aria.distill.models import denoisers

        self.pipeline, self.denoiser = pipeline, denoisers.of(pipeline)
        own = self.teacher
        noise = grids.starting_noise(self.denoiser, pipeline, len(prompts), seed, resolution, frames)
        self.noise = noise.to(pipeline.device, own.dtype)
        self.encoded = grids.encoded(pipeline, self.denoiser, prompts)
        self.guidance, self.seed = guidance, seed

    @property
    def teacher(self) -> Any:
        """The pipeline's own denoising model."""
        return self.denoiser.model_of(self.pipeline)

    def latents(
        self,
        model: Any,
        *,
        steps: int,
        prediction: str | None = None,
        scheduler: Any = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Tensor:
        """(N, …) latents on the CPU that ``model`` generates; see :func:`aria.distill.evaluation.grids.generated`."""
        conditions, null = self.encoded
        how: dict[str, Any] = {"steps": steps, "prediction": prediction, "scheduler": scheduler, "progress": progress}
        how |= {"guidance": self.guidance, "seed": self.seed}
        return grids.generated(self.pipeline, self.denoiser, model, conditions, null, self.noise, **how)

    def images(self, latents: Tensor) -> Tensor:
        """(N, 3, H, W) images in [0, 1], or (N, 3, F, H, W) videos, on the CPU."""
        size = grids.batch(latents, DECODED)
        parts = [latents[first : first + size].to(self.noise) for first in range(0, len(latents), size)]
        return torch.cat([self.denoiser.decode(self.pipeline, part).float().cpu() for part in parts])
