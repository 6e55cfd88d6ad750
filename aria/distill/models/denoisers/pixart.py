"""PixArt-α and PixArt-Σ: a transformer conditioned on T5's sequence."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.utils import is_bs4_available, is_ftfy_available
from torch import Tensor, nn

from aria.distill.models.denoisers.base import Condition, Denoiser, TokenLimit, default_of, mean_of_tokens, with_mask
from aria.distill.models.denoisers.variance import learned
from aria.distill.objectives.base import Objective

SIZED = 128
"""Side of the latents from which PixArt-α's pipeline also passes the image's size to its model."""


class PixArt(Denoiser):
    """Conditions are ``prompt_embeds`` (N, L, D) and ``mask`` (N, L), 1 where there is a token.

    PixArt-α at 1024 pixels also takes ``resolution`` (N, 2) and ``aspect_ratio`` (N, 1); they are those of the
    model's own size, as the pipeline has them by default, so images are of no other. The null condition is the encoding
    of the empty text, of which the mask leaves one token.
    """

    pipelines = ("PixArtAlphaPipeline", "PixArtSigmaPipeline")

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        size = {name: condition.get(name) for name in ("resolution", "aspect_ratio")}
        output: Tensor = model(
            noisy,
            encoder_hidden_states=condition["prompt_embeds"].to(noisy.dtype),
            encoder_attention_mask=condition["mask"],
            timestep=timestep,
            added_cond_kwargs={name: None if value is None else value.to(noisy.dtype) for name, value in size.items()},
            return_dict=False,
        )[0]
        return output[:, : noisy.shape[1]]

    def encode(self, pipeline: Any, texts: list[str], device: torch.device | str) -> Condition:
        with torch.no_grad():
            embeds, mask, *_ = pipeline.encode_prompt(
                list(texts), do_classifier_free_guidance=False, device=device, clean_caption=_cleans()
            )
        return {"prompt_embeds": embeds, "mask": mask, **self._size(pipeline, embeds)}

    def null(self, pipeline: Any, device: torch.device | str) -> Condition:
        with torch.no_grad():
            *_, embeds, mask = pipeline.encode_prompt([""], device=device, clean_caption=_cleans())
        return {"prompt_embeds": embeds, "mask": mask, **self._size(pipeline, embeds)}

    def features(self, condition: Condition) -> Tensor:
        return mean_of_tokens(condition)

    def inputs(self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
        return with_mask(condition, null, noise) | {"use_resolution_binning": False}

    def token_limit(self, pipeline: Any) -> TokenLimit | None:
        """As many tokens as the pipeline takes by default: 120 of PixArt-α, 300 of PixArt-Σ."""
        tokens = default_of(pipeline.encode_prompt, "max_sequence_length")
        return TokenLimit(pipeline.tokenizer, int(tokens))

    def terms(self, model: Any) -> tuple[Objective, ...]:
        return learned(model, "proj_out")

    def side_in_condition(self, pipeline: Any) -> int | None:
        side = pipeline.transformer.config.sample_size
        sized = type(pipeline).__name__ == "PixArtAlphaPipeline" and side == SIZED
        return int(side) * self.scale(pipeline) if sized else None

    def _size(self, pipeline: Any, embeds: Tensor) -> Condition:
        """The size of a square image of the model's own size, where the pipeline passes it."""
        side = self.side_in_condition(pipeline)
        if side is None:
            return {}
        pixels = float(side)
        size = {"resolution": embeds.new_tensor([[pixels, pixels]]), "aspect_ratio": embeds.new_tensor([[1.0]])}
        return {name: value.expand(len(embeds), -1) for name, value in size.items()}


def _cleans() -> bool:
    """Whether the pipeline, left to itself, cleans captions: it does where it can."""
    return bool(is_bs4_available() and is_ftfy_available())
