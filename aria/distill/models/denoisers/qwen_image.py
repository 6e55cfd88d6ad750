"""Qwen-Image: a flow-matching transformer conditioned on Qwen2.5-VL's sequence, with an autoencoder of videos."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from aria.distill.models.denoisers.base import LEVELS, Condition, TokenLimit, default_of, digest, mean_of_tokens
from aria.distill.models.denoisers.guidance import of_length
from aria.distill.models.denoisers.packing import PATCH, Packed, pack


class QwenImage(Packed):
    """Conditions are ``prompt_embeds`` (N, L, D) and ``mask`` (N, L), 1 where there is a token.

    The pipeline puts every prompt into a template, and leaves the tokens in front of the prompt out of its embeddings.
    They are padded here to as many as it takes by default; it pads only to the longest in a batch, and the model does
    not see padding. It guides only if it is given a negative prompt, for which its documentation suggests a space; a
    guided output is then rescaled, patch by patch, to the length of the output under the sample's own condition.

    The autoencoder is one of videos, of which an image is one frame.
    """

    pipelines = ("QwenImagePipeline",)
    scale_argument = "true_cfg_scale"
    negative_prompt = " "

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        height, width = (side // PATCH for side in noisy.shape[2:])
        output: Tensor = model(
            hidden_states=pack(noisy),
            encoder_hidden_states=condition["prompt_embeds"].to(noisy.dtype),
            encoder_hidden_states_mask=condition["mask"],
            timestep=timestep / LEVELS,
            img_shapes=[[(1, height, width)]] * len(noisy),
            return_dict=False,
        )[0]
        return self.unpack(output, noisy)

    def guide(self, without: Tensor, conditioned: Tensor, scale: Tensor) -> Tensor:
        guided = super().guide(without, conditioned, scale)
        return self.unpack(of_length(pack(guided), pack(conditioned)), guided)

    def encode(self, pipeline: Any, texts: list[str], device: torch.device | str) -> Condition:
        length = _tokens(pipeline)
        with torch.no_grad():
            embeds, mask = pipeline.encode_prompt(list(texts), device=device, max_sequence_length=length)
        if mask is None:  # no row has padding
            mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
        blank = length - embeds.shape[1]
        return {"prompt_embeds": pad(embeds, (0, 0, 0, blank)), "mask": pad(mask, (0, blank))}

    def null(self, pipeline: Any, device: torch.device | str) -> Condition:
        return self.encode(pipeline, [self.negative_prompt], device)

    def features(self, condition: Condition) -> Tensor:
        return mean_of_tokens(condition)

    def inputs(self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
        return {
            "prompt_embeds": condition["prompt_embeds"],
            "prompt_embeds_mask": condition["mask"],
            "negative_prompt_embeds": null["prompt_embeds"],
            "negative_prompt_embeds_mask": null["mask"],
            **self.packed_inputs(pipeline, noise),
        }

    def idle(self, model: Any) -> tuple[nn.Module, ...]:
        """What the last block makes of its text."""
        last = model.transformer_blocks[-1]
        return last.txt_mlp, last.attn.to_add_out

    def token_limit(self, pipeline: Any) -> TokenLimit | None:
        return TokenLimit(pipeline.tokenizer, _tokens(pipeline))

    def depends_on(self, pipeline: Any) -> dict[str, str]:
        return {"template": digest(f"{pipeline.prompt_template_encode_start_idx} {pipeline.prompt_template_encode}")}

    def decode(self, pipeline: Any, latents: Tensor) -> Tensor:
        return super().decode(pipeline, latents[:, :, None])[:, :, 0]

    def encode_images(
        self, pipeline: Any, pixels: Tensor, generator: torch.Generator | list[torch.Generator] | None = None
    ) -> Tensor:
        return super().encode_images(pipeline, pixels[:, :, None], generator)[:, :, 0]


def _tokens(pipeline: Any) -> int:
    """How many of a text's tokens, and of those behind it in the template, the pipeline keeps by default."""
    return int(default_of(pipeline.__call__, "max_sequence_length"))
