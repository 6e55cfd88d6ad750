"""Stable Diffusion XL: a UNet conditioned on two encoders' sequences, a pooled embedding and an image size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aria.distill.models.denoisers import guidance
from aria.distill.models.denoisers.base import Condition, Denoiser, with_pooled


class StableDiffusionXL(Denoiser):
    """Conditions are ``prompt_embeds`` (N, L, D), ``pooled`` (N, P) and ``time_ids`` (N, 6).

    The time ids are original size, crop corner and target size in pixels; they are those of an uncropped image of the
    model's own size, as the pipeline has them by default, so images are of no other. All three are swapped together
    when a condition is replaced.
    """

    pipelines = ("StableDiffusionXLPipeline",)
    takes_guidance = True

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        added = {"text_embeds": condition["pooled"].to(noisy.dtype), "time_ids": condition["time_ids"].to(noisy.dtype)}
        embeds, scale = condition["prompt_embeds"].to(noisy.dtype), guidance.guidance_argument(model, condition, noisy)
        output: Tensor = model(noisy, timestep, embeds, added_cond_kwargs=added, return_dict=False, **scale)[0]
        return output

    def encode(self, pipeline: Any, texts: list[str], device: torch.device | str) -> Condition:
        with torch.no_grad():
            embeds, _, pooled, _ = pipeline.encode_prompt(list(texts), device=device, do_classifier_free_guidance=False)
        return {"prompt_embeds": embeds, "pooled": pooled, "time_ids": self._time_ids(pipeline, embeds)}

    def null(self, pipeline: Any, device: torch.device | str) -> Condition:
        """The pipeline decides: zeros where it is configured with ``force_zeros_for_empty_prompt``."""
        with torch.no_grad():
            _, embeds, _, pooled = pipeline.encode_prompt([""], device=device, do_classifier_free_guidance=True)
        return {"prompt_embeds": embeds, "pooled": pooled, "time_ids": self._time_ids(pipeline, embeds)}

    def features(self, condition: Condition) -> Tensor:
        return condition["pooled"].float()

    def inputs(self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
        return with_pooled(condition, null, noise)

    def side_in_condition(self, pipeline: Any) -> int:
        return int(pipeline.unet.config.sample_size) * self.scale(pipeline)

    def _time_ids(self, pipeline: Any, embeds: Tensor) -> Tensor:
        """(N, 6) of an uncropped image of the model's own size."""
        side = self.side_in_condition(pipeline)
        return embeds.new_tensor([side, side, 0, 0, side, side]).expand(len(embeds), 6)
