"""LTX-Video: a flow-matching transformer of videos, conditioned on T5's sequence, on packed and strongly compressed
latents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aria.distill.models.denoisers.base import Condition, TokenLimit, default_of, mean_of_tokens
from aria.distill.models.denoisers.packing import flat, unflat
from aria.distill.models.denoisers.video import Video

SPACE, TIME = 32, 8
"""Pixels a side for each latent, and frames for each after the first."""
RATE = 25
"""Frames in a second, the pipeline's default: the model's positions in time are seconds."""


class LTX(Video):
    """Conditions are ``prompt_embeds`` (N, L, D) and ``mask`` (N, L), 1 where there is a token.

    Latents are (N, C, F, H, W), as the autoencoder has them, and packed into (N, FHW, C) only for the model and the
    pipeline. The model takes their sides, and how many frames and pixels each of them is. The null condition is the
    encoding of the empty text.
    """

    pipelines = ("LTXPipeline",)

    def refusal(self, pipeline: Any) -> str | None:
        scales = pipeline.vae_spatial_compression_ratio, pipeline.vae_temporal_compression_ratio
        patches = pipeline.transformer_spatial_patch_size, pipeline.transformer_temporal_patch_size
        if scales + patches == (SPACE, TIME, 1, 1):
            return None
        return (
            f"this LTXPipeline has latents of {scales[0]} pixels a side and {scales[1]} frames, in patches of "
            f"{patches[0]} and {patches[1]}: {SPACE} and {TIME}, in patches of 1 and 1, are needed"
        )

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        frames, height, width = noisy.shape[2:]
        output: Tensor = model(
            hidden_states=flat(noisy),
            encoder_hidden_states=condition["prompt_embeds"].to(noisy.dtype),
            timestep=timestep,
            encoder_attention_mask=condition["mask"],
            num_frames=frames,
            height=height,
            width=width,
            rope_interpolation_scale=(TIME / RATE, SPACE, SPACE),
            return_dict=False,
        )[0]
        return self.unpack(output, noisy)

    def encode(self, pipeline: Any, texts: list[str], device: torch.device | str) -> Condition:
        with torch.no_grad():
            embeds, mask, *_ = pipeline.encode_prompt(list(texts), do_classifier_free_guidance=False, device=device)
        return {"prompt_embeds": embeds, "mask": mask.long()}

    def null(self, pipeline: Any, device: torch.device | str) -> Condition:
        return self.encode(pipeline, [""], device)

    def features(self, condition: Condition) -> Tensor:
        return mean_of_tokens(condition)

    def inputs(self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
        frames, height, width = noise.shape[2:]
        return {
            "prompt_embeds": condition["prompt_embeds"],
            "prompt_attention_mask": condition["mask"],
            "negative_prompt_embeds": null["prompt_embeds"],
            "negative_prompt_attention_mask": null["mask"],
            "latents": flat(noise),
            "num_frames": (frames - 1) * TIME + 1,
            "height": height * SPACE,
            "width": width * SPACE,
        }

    def unpack(self, latents: Tensor, like: Tensor) -> Tensor:
        return unflat(latents, like.shape[2:])

    def token_limit(self, pipeline: Any) -> TokenLimit | None:
        return TokenLimit(pipeline.tokenizer, int(default_of(pipeline.__call__, "max_sequence_length")))

    def scale(self, pipeline: Any) -> int:
        return SPACE

    def time_scale(self, pipeline: Any) -> int:
        return TIME
