"""Z-Image: a flow-matching transformer of one stream, conditioned on the states of a language model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from aria.distill.models.denoisers import chat
from aria.distill.models.denoisers.base import (
    LEVELS,
    Condition,
    Denoiser,
    TokenLimit,
    default_of,
    mean_of_tokens,
    side_of,
)

PATCH, PIXELS = 2, 1024
"""Latents a side of what the pipeline's model takes as one position; pixels a side of an image by default."""


class ZImage(Denoiser):
    """Conditions are ``prompt_embeds`` (N, L, D) and ``mask`` (N, L), 1 where there is a token.

    The model takes a list of texts without padding and adds some of its own, which it sees: every text is a multiple of
    32 positions long, and the image's positions begin behind them. So texts are cut to their lengths here, which are
    read on the host, once for each call of the model.

    Its time runs from the noise, 0, to the image, 1, and so does the flow that it predicts. The pipeline guides at all
    scales over 0: its scale is one less than that of other families. The null condition is the encoding of the empty
    text, in the chat template as any other.
    """

    pipelines = ("ZImagePipeline",)
    unguided = 0.0

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        images: list[Tensor] = model(
            list(noisy[:, :, None]),  # (C, 1, H, W) each
            (LEVELS - timestep) / LEVELS,  # in this order, as rounding is enlarged a thousandfold
            _cut(condition, noisy.dtype),
            return_dict=False,
        )[0]
        return -torch.stack(images)[:, :, 0]

    def guide(self, without: Tensor, conditioned: Tensor, scale: Tensor) -> Tensor:
        return super().guide(without, conditioned, 1 + scale)

    def encode(self, pipeline: Any, texts: list[str], device: torch.device | str) -> Condition:
        with torch.no_grad():
            rows, _ = pipeline.encode_prompt(list(texts), device, do_classifier_free_guidance=False)
        most = int(default_of(pipeline.__call__, "max_sequence_length"))
        mask = torch.arange(most) < torch.tensor([[len(row)] for row in rows])
        embeds = torch.stack([pad(row, (0, 0, 0, most - len(row))) for row in rows])
        return {"prompt_embeds": embeds, "mask": mask.long().to(embeds.device)}

    def null(self, pipeline: Any, device: torch.device | str) -> Condition:
        return self.encode(pipeline, [""], device)

    def features(self, condition: Condition) -> Tensor:
        return mean_of_tokens(condition)

    def inputs(self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
        """With the noise in float32, in which the pipeline keeps latents whatever its model's type."""
        height, width = (side * self.scale(pipeline) for side in noise.shape[2:])
        return {
            "prompt_embeds": _cut(condition, noise.dtype),
            "negative_prompt_embeds": _cut(null, noise.dtype),
            "latents": noise.float(),
            "height": height,
            "width": width,
        }

    def token_limit(self, pipeline: Any) -> TokenLimit | None:
        return chat.what_a_user_may_write(pipeline, enable_thinking=True)

    def depends_on(self, pipeline: Any) -> dict[str, str]:
        return chat.template(pipeline)

    def latent_shape(self, pipeline: Any, resolution: int | None = None) -> tuple[int, ...]:
        side = side_of(resolution or PIXELS, self.scale(pipeline), PATCH)
        return int(pipeline.transformer.config.in_channels), side, side


def _cut(condition: Condition, dtype: torch.dtype) -> list[Tensor]:
    """The tokens of each text, without padding."""
    lengths: list[int] = condition["mask"].sum(1).tolist()
    return [row[:length] for row, length in zip(condition["prompt_embeds"].to(dtype), lengths, strict=True)]
