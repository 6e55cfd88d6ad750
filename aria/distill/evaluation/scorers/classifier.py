"""Scores by an image classifier on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aria.checks import InvalidSetting
from aria.distill.evaluation.scorers.base import Scorer

BATCH = 32
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's normalisation of pixels."""


@dataclass(frozen=True)
class Classifier(Scorer):
    """Whether the image classifier of transformers in a folder gives the student's image the class that it gives the
    teacher's (``agreement``)."""

    folder: str

    def __post_init__(self) -> None:
        if not Path(self.folder, "config.json").is_file():
            message = f"there is no classifier in {self.folder}: it has no config.json"
            raise InvalidSetting("classifier", "file", message)

    def scores(self, prompts: Sequence[str], images: Tensor, teacher: Tensor) -> Mapping[str, Tensor]:
        return {"agreement": (self._classes(images) == self._classes(teacher)).float()}

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForImageClassification

        options: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
        return AutoModelForImageClassification.from_pretrained(self.folder, **options).float().eval()

    @cached_property
    def _processing(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation by which pixels are normalised."""
        from aria import files

        path = Path(self.folder, "preprocessor_config.json")
        found = files.read_json(path) if path.is_file() else {}
        return tuple(found.get("image_mean", (0.5,) * 3)), tuple(found.get("image_std", (0.5,) * 3))

    @torch.no_grad()
    def _classes(self, images: Tensor) -> Tensor:
        side = getattr(self._model.config, "image_size", images.shape[-1])
        mean, std = self._processing
        parts = images.split(BATCH)  # type: ignore[no-untyped-call]
        return torch.cat([self._model(pixel_values(part, side, mean, std)).logits.argmax(1) for part in parts])


def pixel_values(
    images: Tensor, side: int, mean: Sequence[float] = MEAN, std: Sequence[float] = STD
) -> Tensor:
    """(N, 3, side, side) normalised pixels of images in [0, 1]."""
    sized = torch.nn.functional.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    shift, scale = (torch.tensor(value).view(1, 3, 1, 1) for value in (mean, std))
    return (sized - shift) / scale
