"""Stable Diffusion 1.x and 2.x: a UNet conditioned on the text encoder's sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aria.distill.models.denoisers import guidance
from aria.distill.models.denoisers.base import Condition, Denoiser


class StableDiffusion(Denoiser):
    """Conditions are ``prompt_embeds`` (N, L, D); the null condition is the encoding of the empty text."""

    pipelines = ("StableDiffusionPipeline",)
    takes_guidance = True

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        embeds, scale = condition["prompt_embeds"].to(noisy.dtype), guidance.guidance_argument(model, condition, noisy)
        output: Tensor = model(noisy, timestep, embeds, return_dict=False, **scale)[0]
        return output

    def encode(self, pipeline: Any, texts: list[str], device: torch.device | str) -> Condition:
        with torch.no_grad():
            embeds, _ = pipeline.encode_prompt(list(texts), device, 1, False)
        return {"prompt_embeds": embeds}

    def null(self, pipeline: Any, device: torch.device | str) -> Condition:
        with torch.no_grad():
            _, embeds = pipeline.encode_prompt([""], device, 1, True)
        return {"prompt_embeds": embeds}

    def features(self, condition: Condition) -> Tensor:
        return condition["prompt_embeds"].float().mean(1)

    def inputs(self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
        return {
            "prompt_embeds": condition["prompt_embeds"],
            "negative_prompt_embeds": null["prompt_embeds"],
            "latents": noise,
        }
