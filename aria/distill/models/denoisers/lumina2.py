"""Lumina-Image 2.0: a flow-matching transformer of one stream, conditioned on Gemma's sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aria.distill.models.denoisers.base import (
    LEVELS,
    Condition,
    Denoiser,
    TokenLimit,
    default_of,
    digest,
    mean_of_tokens,
    with_mask,
)
from aria.distill.models.denoisers.guidance import of_length

BEHIND = " <Prompt Start> "
"""What the pipeline puts between its system prompt and a prompt."""


class Lumina2(Denoiser):
    """Conditions are ``prompt_embeds`` (N, L, D) and ``mask`` (N, L), 1 where there is a token.

    The model's time runs from the noise, 0, to the image, 1, and so does the flow that it predicts. The pipeline puts a
    system prompt before every prompt; the null condition is the encoding of the empty text without it. By default it
    guides at every step, and then rescales each row of a guided output's latents to its length under the prompt.
    """

    pipelines = ("Lumina2Pipeline",)

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        output: Tensor = model(
            noisy,
            timestep=1 - timestep / LEVELS,
            encoder_hidden_states=condition["prompt_embeds"].to(noisy.dtype),
            encoder_attention_mask=condition["mask"],
            return_dict=False,
        )[0]
        return -output

    def guide(self, without: Tensor, conditioned: Tensor, scale: Tensor) -> Tensor:
        return of_length(super().guide(without, conditioned, scale), conditioned)

    def encode(self, pipeline: Any, texts: list[str], device: torch.device | str) -> Condition:
        with torch.no_grad():
            embeds, mask, *_ = pipeline.encode_prompt(list(texts), False, device=device)
        return {"prompt_embeds": embeds, "mask": mask}

    def null(self, pipeline: Any, device: torch.device | str) -> Condition:
        with torch.no_grad():
            *_, embeds, mask = pipeline.encode_prompt([""], device=device)
        return {"prompt_embeds": embeds, "mask": mask}

    def features(self, condition: Condition) -> Tensor:
        return mean_of_tokens(condition)

    def inputs(self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
        return with_mask(condition, null, noise)

    def token_limit(self, pipeline: Any) -> TokenLimit | None:
        """What the system prompt leaves; both it and a text on its own begin with the same token."""
        kept = int(default_of(pipeline.encode_prompt, "max_sequence_length"))
        before = pipeline.tokenizer(pipeline.system_prompt + BEHIND).input_ids
        return TokenLimit(pipeline.tokenizer, kept - len(before) + 1)

    def depends_on(self, pipeline: Any) -> dict[str, str]:
        return {"system prompt": digest(pipeline.system_prompt)}
