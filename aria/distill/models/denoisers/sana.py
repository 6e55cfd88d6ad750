"""Sana: a transformer of linear attention, conditioned on Gemma's sequence, on the latents of a deep autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aria.distill.models.denoisers.base import (
    Condition,
    Denoiser,
    TokenLimit,
    default_of,
    digest,
    mean_of_tokens,
    with_mask,
)


class Sana(Denoiser):
    """Conditions are ``prompt_embeds`` (N, L, D) and ``mask`` (N, L), 1 where there is a token.

    By default the pipeline puts an instruction before every prompt, and keeps of both the first token and the last 299.
    The null condition is the encoding of the empty text without the instruction, of which the mask leaves one token.
    """

    pipelines = ("SanaPipeline",)

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        config: Any = model.config
        output: Tensor = model(
            noisy,
            encoder_hidden_states=condition["prompt_embeds"].to(noisy.dtype),
            encoder_attention_mask=condition["mask"],
            timestep=timestep * config.timestep_scale,
            return_dict=False,
        )[0]
        return output

    def encode(self, pipeline: Any, texts: list[str], device: torch.device | str) -> Condition:
        with torch.no_grad():
            embeds, mask, *_ = pipeline.encode_prompt(
                list(texts), False, device=device, complex_human_instruction=_instruction(pipeline)
            )
        return {"prompt_embeds": embeds, "mask": mask}

    def null(self, pipeline: Any, device: torch.device | str) -> Condition:
        with torch.no_grad():
            *_, embeds, mask = pipeline.encode_prompt([""], device=device)
        return {"prompt_embeds": embeds, "mask": mask}

    def features(self, condition: Condition) -> Tensor:
        return mean_of_tokens(condition)

    def inputs(self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
        return with_mask(condition, null, noise) | {"use_resolution_binning": False}

    def token_limit(self, pipeline: Any) -> TokenLimit | None:
        """One less than the pipeline keeps: the last token of the instruction takes a place."""
        return TokenLimit(pipeline.tokenizer, int(default_of(pipeline.encode_prompt, "max_sequence_length")) - 1)

    def depends_on(self, pipeline: Any) -> dict[str, str]:
        return {"instruction": digest("\n".join(_instruction(pipeline)))}

    def encode_images(
        self, pipeline: Any, pixels: Tensor, generator: torch.Generator | list[torch.Generator] | None = None
    ) -> Tensor:
        """The autoencoder has one latent for an image, and draws none."""
        vae = pipeline.vae
        with torch.no_grad():
            latents: Tensor = vae.encode(pixels.to(vae.dtype)).latent * vae.config.scaling_factor
        return latents

    def scale(self, pipeline: Any) -> int:
        return int(2 ** (len(pipeline.vae.config.encoder_block_out_channels) - 1))


def _instruction(pipeline: Any) -> list[str]:
    """What the pipeline, left to itself, puts before every prompt."""
    lines: list[str] = default_of(pipeline.__call__, "complex_human_instruction")
    return lines
