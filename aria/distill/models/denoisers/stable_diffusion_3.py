"""Stable Diffusion 3 and 3.5: a flow-matching transformer conditioned on two CLIPs and T5."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from aria.distill.models.denoisers.base import Condition, Denoiser, TokenLimit, with_pooled

CLIP_TOKENS, T5_TOKENS = 77, 256
"""The pipeline's defaults: of the CLIPs where neither is there, and of T5."""


class StableDiffusion3(Denoiser):
    """Conditions are ``prompt_embeds`` (N, L, D), the CLIPs' tokens followed by those of T5, and ``pooled`` (N, P).

    Each of the three encoders may be absent; zeros then stand where its embeddings would. The pipeline does the same
    for T5. Without a CLIP it cannot encode, but takes what is encoded here. The null condition is the empty text
    through all encoders.
    """

    pipelines = ("StableDiffusion3Pipeline",)

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        output: Tensor = model(
            hidden_states=noisy,
            encoder_hidden_states=condition["prompt_embeds"].to(noisy.dtype),
            pooled_projections=condition["pooled"].to(noisy.dtype),
            timestep=timestep,
            return_dict=False,
        )[0]
        return output

    def encode(self, pipeline: Any, texts: list[str], device: torch.device | str) -> Condition:
        model, widths = pipeline.transformer, _widths(pipeline)
        if not any((pipeline.text_encoder, pipeline.text_encoder_2, pipeline.text_encoder_3)):
            raise ValueError("the pipeline has no text encoder left, so all prompts would be the same to it")
        with torch.no_grad():
            clips = [_clip(pipeline, list(texts), which, widths[which], device) for which in (0, 1)]
            t5 = pipeline._get_t5_prompt_embeds(
                list(texts), max_sequence_length=T5_TOKENS, device=device, dtype=model.dtype
            )
        words = torch.cat([words for words, _ in clips], -1)  # (N, L, D1 + D2)
        words = pad(words, (0, t5.shape[-1] - words.shape[-1]))
        return {"prompt_embeds": torch.cat([words, t5], 1), "pooled": torch.cat([pooled for _, pooled in clips], -1)}

    def null(self, pipeline: Any, device: torch.device | str) -> Condition:
        return self.encode(pipeline, [""], device)

    def features(self, condition: Condition) -> Tensor:
        """The CLIPs' pooled embeddings; without a CLIP they are zero, and the mean of T5's tokens is taken."""
        pooled, tokens = condition["pooled"].float(), condition["prompt_embeds"].float()
        return pooled if bool(pooled.any()) else tokens.mean(1)

    def token_limit(self, pipeline: Any) -> TokenLimit | None:
        """T5's, which reads on where the CLIPs stop; without T5 theirs."""
        if pipeline.text_encoder_3 is not None:
            return TokenLimit(pipeline.tokenizer_3, T5_TOKENS)
        return super().token_limit(pipeline)

    def inputs(self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
        return with_pooled(condition, null, noise)


def _widths(pipeline: Any) -> tuple[int, int]:
    """How wide the embeddings of each CLIP are, or would be: together they are the pooled embedding."""
    total = int(pipeline.transformer.config.pooled_projection_dim)
    first, second = pipeline.text_encoder, pipeline.text_encoder_2
    if first is not None:
        return int(first.config.projection_dim), total - int(first.config.projection_dim)
    return (total, 0) if second is None else (total - int(second.config.projection_dim), second.config.projection_dim)


def _clip(
    pipeline: Any, texts: list[str], which: int, width: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """(N, L, D) and (N, P) of one CLIP: its last but one states, and its projected end of text."""
    encoder = (pipeline.text_encoder, pipeline.text_encoder_2)[which]
    tokenizers = (pipeline.tokenizer, pipeline.tokenizer_2)
    length = next((int(found.model_max_length) for found in tokenizers if found is not None), CLIP_TOKENS)
    if encoder is None:
        like = {"dtype": pipeline.transformer.dtype, "device": device}
        return torch.zeros(len(texts), length, width, **like), torch.zeros(len(texts), width, **like)
    cut = {"padding": "max_length", "max_length": length, "truncation": True}
    tokens = tokenizers[which](texts, **cut, return_tensors="pt").input_ids
    states = encoder(tokens.to(device), output_hidden_states=True)
    return states.hidden_states[-2], states[0]
