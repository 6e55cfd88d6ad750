"""Flux: a flow-matching transformer with two kinds of blocks, conditioned on T5's sequence and CLIP's pooled text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aria.distill.models.denoisers import guidance
from aria.distill.models.denoisers.base import LEVELS, Condition, TokenLimit, default_of
from aria.distill.models.denoisers.packing import PATCH, Packed, pack


class Flux(Packed):
    """Conditions are ``prompt_embeds`` (N, L, D), T5's tokens with their padding, and ``pooled`` (N, P).

    A model with ``guidance_embeds`` (FLUX.1-dev) takes the guidance scale as an input; one without (FLUX.1-schnell) is
    not guided. By default the pipeline uses no null condition with either; ``true_cfg_scale`` turns it on, and it is
    then, as here, the encoding of the empty text.
    """

    pipelines = ("FluxPipeline",)
    takes_guidance = True

    def guides(self, pipeline: Any) -> bool:
        return False

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
        prompts = {"prompt_embeds": condition["prompt_embeds"], "pooled_prompt_embeds": condition["pooled"]}
        return prompts | self.packed_inputs(pipeline, noise)

    def token_limit(self, pipeline: Any) -> TokenLimit | None:
        """T5's, which reads on where CLIP stops: as many tokens as the pipeline takes by default."""
        tokens = default_of(pipeline.encode_prompt, "max_sequence_length")
        return TokenLimit(pipeline.tokenizer_2, int(tokens))


def places(height: int, width: int, device: torch.device) -> Tensor:
    """(HW, 3) the row and the column of each patch, behind a 0; tokens of text are at 0 of all three."""
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    return torch.cartesian_prod(torch.zeros_like(rows[:1]), rows, columns).float()
