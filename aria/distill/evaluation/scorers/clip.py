"""Scores by a CLIP model on disk."""

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
from aria.distill.evaluation.scorers.classifier import BATCH, pixel_values


@dataclass(frozen=True)
class Clip(Scorer):
    """Cosines in the embedding of the CLIP model in a folder: of image and prompt (``clip``; J. Hessel et al.,
    "CLIPScore", EMNLP 2021, without its factor), and of the student's image and the teacher's (``clip-agreement``)."""

    folder: str

    def __post_init__(self) -> None:
        if not Path(self.folder, "config.json").is_file():
            raise InvalidSetting("clip", "file", f"there is no CLIP model in {self.folder}: it has no config.json")

    def scores(self, prompts: Sequence[str], images: Tensor, teacher: Tensor) -> Mapping[str, Tensor]:
        own, others, words = self._seen(images), self._seen(teacher), self._read(prompts)
        return {"clip": (own * words).sum(1), "clip-agreement": (own * others).sum(1)}

    @cached_property
    def _model(self) -> Any:
        from transformers import CLIPModel

        return CLIPModel.from_pretrained(self.folder, use_safetensors=True, local_files_only=True).float().eval()

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import CLIPTokenizer

        return CLIPTokenizer.from_pretrained(self.folder, local_files_only=True)

    @torch.no_grad()
    def _seen(self, images: Tensor) -> Tensor:
        """(N, D) unit vectors."""
        model, side = self._model, self._model.config.vision_config.image_size
        found = [
            model.visual_projection(model.vision_model(pixel_values(part, side)).pooler_output)
            for part in images.split(BATCH)  # type: ignore[no-untyped-call]
        ]
        return torch.nn.functional.normalize(torch.cat(found), dim=1)

    @torch.no_grad()
    def _read(self, prompts: Sequence[str]) -> Tensor:
        model, found = self._model, []
        for first in range(0, len(prompts), BATCH):
            tokens = self._tokenizer(
                list(prompts[first : first + BATCH]), padding=True, truncation=True, return_tensors="pt"
            )
            found.append(model.text_projection(model.text_model(**tokens).pooler_output))
        return torch.nn.functional.normalize(torch.cat(found), dim=1)
