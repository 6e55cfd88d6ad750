"""Flux: a flow-matching transformer with two kinds of blocks, conditioned on T5's sequence and CLIP's pooled text."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from aria.distill.models.denoisers import guidance
from aria.distill.models.denoisers.base import Condition, Denoiser, TokenLimit

PATCH = 2
"""Latents a side of what the pipeline packs into one position."""
LEVELS = 1000
"""What the pipeline divides timesteps by, and the model multiplies them with."""


class Flux(Denoiser):
    """Conditions are ``prompt_embeds`` (N, L, D), T5's tokens with their padding, and ``pooled`` (N, P).

    Latents are (N, C, H, W), as the autoencoder has them, and packed into (N, HW/4, 4C) only for the model and the
    pipeline. Noise, flows and their errors are taken entry by entry, so the order of entries changes nothing; and the
    positions of the patches, which the model takes as well, are those of H and W, which a packed latent does not hold.

    A model with ``guidance_embeds`` (FLUX.1-dev) takes the guidance scale as an input; one without (FLUX.1-schnell) is
    not guided. By default the pipeline uses no null condition with either; ``true_cfg_scale`` turns it on, and it is
    then, as here, the encoding of the empty text.
    """

    pipelines = ("FluxPipeline",)
    takes_guidance = True
    guides = False

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        tokens, (height, width) = condition["prompt_embeds"].to(noisy.dtype), noisy.shape[2:]
        output: Tensor = model(
            hidden_states=pack(noisy),
            encoder_hidden_states=tokens,
            pooled_projections=condition["pooled"].to(noisy.dtype),
            timestep=timestep / LEVELS,
            img_ids=places(height // PATCH, width // PATCH, noisy.device),
            txt_ids=torch.zeros(tokens.shape[1], 3, device=noisy.device),
            return_dict=False,
            **guidance.guidance_argument(model, condition, noisy),
        )[0]
        return self.unpack(output, noisy)

    def encode(self, pipeline: Any, texts: list[str], device: torch.device | str) -> Condition:
        if pipeline.text_encoder is None or pipeline.text_encoder_2 is None:
            raise ValueError("the pipeline needs both of its text encoders, CLIP and T5, to encode prompts")
        with torch.no_grad():
            embeds, pooled, _ = pipeline.encode_prompt(list(texts), device=device)
        return {"prompt_embeds": embeds, "pooled": pooled}

    def null(self, pipeline: Any, device: torch.device | str) -> Condition:
        return self.encode(pipeline, [""], device)

    def features(self, condition: Condition) -> Tensor:
        return condition["pooled"].float()

    def inputs(self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
        height, width = (side * self.scale(pipeline) for side in noise.shape[2:])
        return {
            "prompt_embeds": condition["prompt_embeds"],
            "pooled_prompt_embeds": condition["pooled"],
            "latents": pack(noise),
            "height": height,
            "width": width,
        }

    def unpack(self, latents: Tensor, like: Tensor) -> Tensor:
        """(N, HW/4, 4C) → (N, C, H, W), the shape of ``like``: the reverse of :func:`pack`."""
        height, width = (side // PATCH for side in like.shape[2:])
        return pixel_shuffle(latents.transpose(1, 2).reshape(*latents.shape[::2], height, width), PATCH)

    def token_limit(self, pipeline: Any) -> TokenLimit | None:
        """T5's, which reads on where CLIP stops: as many tokens as the pipeline takes by default."""
        tokens = inspect.signature(pipeline.encode_prompt).parameters["max_sequence_length"].default
        return TokenLimit(pipeline.tokenizer_2, int(tokens))

    def latent_shape(self, pipeline: Any, resolution: int | None = None) -> tuple[int, ...]:
        """(C, H, W), of the pipeline's own size unless there is another: its model has none."""
        factor = PATCH * self.scale(pipeline)
        if resolution is not None and resolution % factor:
            raise ValueError(f"resolution must be a multiple of {factor} for this pipeline, got {resolution}")
        side = int(pipeline.default_sample_size) if resolution is None else resolution // self.scale(pipeline)
        return int(pipeline.transformer.config.in_channels) // PATCH**2, side, side


def pack(latents: Tensor) -> Tensor:
    """(N, C, H, W) → (N, HW/4, 4C): the four latents of each patch, channel by channel, become one position."""
    return pixel_unshuffle(latents, PATCH).flatten(2).transpose(1, 2)


def places(height: int, width: int, device: torch.device) -> Tensor:
    """(HW, 3) the row and the column of each patch, behind a 0; tokens of text are at 0 of all three."""
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    return torch.cartesian_prod(torch.zeros_like(rows[:1]), rows, columns).float()
