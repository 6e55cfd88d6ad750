"""Wan: a flow-matching transformer of videos, conditioned on UMT5's sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aria.distill.models.denoisers.base import Condition, TokenLimit, default_of, mean_of_tokens
from aria.distill.models.denoisers.video import Video


class Wan(Video):
    """Conditions are ``prompt_embeds`` (N, L, D), with zeros behind the last token; the model takes no mask.

    The null condition is the encoding of the empty text. The autoencoder's latents have a mean and a standard deviation
    for each channel. A pipeline with ``expand_timesteps`` (Wan 2.2 5B) repeats the timestep for every position, which
    changes nothing where all of them are generated.
    """

    pipelines = ("WanPipeline",)

    def refusal(self, pipeline: Any) -> str | None:
        if pipeline.config.boundary_ratio is None and pipeline.transformer_2 is None:
            return None
        return "this WanPipeline has two transformers, one for each part of the noise levels: one with one is needed"

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        output: Tensor = model(
            hidden_states=noisy,
            timestep=timestep,
            encoder_hidden_states=condition["prompt_embeds"].to(noisy.dtype),
            return_dict=False,
        )[0]
        return output

    def encode(self, pipeline: Any, texts: list[str], device: torch.device | str) -> Condition:
        with torch.no_grad():
            embeds, _ = pipeline.encode_prompt(
                list(texts), do_classifier_free_guidance=False, max_sequence_length=_tokens(pipeline), device=device
            )
        return {"prompt_embeds": embeds}

    def null(self, pipeline: Any, device: torch.device | str) -> Condition:
        return self.encode(pipeline, [""], device)

    def features(self, condition: Condition) -> Tensor:
        return mean_of_tokens(condition)

    def inputs(self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
        return {
            "prompt_embeds": condition["prompt_embeds"],
            "negative_prompt_embeds": null["prompt_embeds"],
            "latents": noise,
        }

    def token_limit(self, pipeline: Any) -> TokenLimit | None:
        return TokenLimit(pipeline.tokenizer, _tokens(pipeline))

    def scale(self, pipeline: Any) -> int:
        return int(pipeline.vae.config.scale_factor_spatial)

    def time_scale(self, pipeline: Any) -> int:
        return int(pipeline.vae.config.scale_factor_temporal)


def _tokens(pipeline: Any) -> int:
    """How many tokens the pipeline, left to itself, encodes: more than its ``encode_prompt`` alone."""
    return int(default_of(pipeline.__call__, "max_sequence_length"))
