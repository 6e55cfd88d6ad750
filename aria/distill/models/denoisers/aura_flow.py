"""AuraFlow: a flow-matching transformer with two kinds of blocks, conditioned on UMT5's sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aria.distill.models.denoisers.base import LEVELS, Condition, Denoiser, TokenLimit, default_of, mean_of_tokens


class AuraFlow(Denoiser):
    """Conditions are ``prompt_embeds`` (N, L, D), with zeros behind the last token; the model takes no mask.

    The null condition is the encoding of the empty text.
    """

    pipelines = ("AuraFlowPipeline",)

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        output: Tensor = model(
            noisy,
            encoder_hidden_states=condition["prompt_embeds"].to(noisy.dtype),
            timestep=timestep / LEVELS,
            return_dict=False,
        )[0]
        return output

    def encode(self, pipeline: Any, texts: list[str], device: torch.device | str) -> Condition:
        with torch.no_grad():
            embeds, *_ = pipeline.encode_prompt(list(texts), do_classifier_free_guidance=False, device=device)
        return {"prompt_embeds": embeds}

    def null(self, pipeline: Any, device: torch.device | str) -> Condition:
        return self.encode(pipeline, [""], device)

    def features(self, condition: Condition) -> Tensor:
        return mean_of_tokens(condition)

    def inputs(self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
        """With masks, which the pipeline demands with embeddings, and does not use."""
        embeds, without = condition["prompt_embeds"], null["prompt_embeds"]
        return {
            "prompt_embeds": embeds,
            "prompt_attention_mask": torch.ones_like(embeds[..., 0]),
            "negative_prompt": None,
            "negative_prompt_embeds": without,
            "negative_prompt_attention_mask": torch.ones_like(without[..., 0]),
            "latents": noise,
        }

    def token_limit(self, pipeline: Any) -> TokenLimit | None:
        return TokenLimit(pipeline.tokenizer, int(default_of(pipeline.encode_prompt, "max_sequence_length")))
