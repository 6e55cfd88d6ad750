"""FLUX.2 and FLUX.2 klein: a flow-matching transformer with two kinds of blocks, conditioned on the states of a
language model, on latents normalised in patches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from aria.distill.models.denoisers import chat, guidance
from aria.distill.models.denoisers.base import LEVELS, Condition, Denoiser, TokenLimit, digest, side_of
from aria.distill.models.denoisers.packing import PATCH, flat, unflat


class Flux2(Denoiser):
    """Conditions are ``prompt_embeds`` (N, L, D), the states of three layers of the text encoder one after the other,
    of all positions: the model takes no mask, and sees padding.

    Latents are (N, C, H, W): the four of each patch of the autoencoder's, channel by channel, with the mean and the
    variance of its batch norm taken off. They are packed into (N, HW, C) only for the model. A model with
    ``guidance_embeds`` takes the guidance scale as an input. The pipeline has no null condition; here it is the empty
    text.
    """

    pipelines = ("Flux2Pipeline",)
    prompt_argument = "prompt=prompt"  # the first argument is an image to be changed
    takes_guidance = True

    def guides(self, pipeline: Any) -> bool:
        return False

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        tokens = condition["prompt_embeds"].to(noisy.dtype)
        output: Tensor = model(
            hidden_states=flat(noisy),
            encoder_hidden_states=tokens,
            timestep=timestep / LEVELS,
            img_ids=places(noisy, (1, *noisy.shape[2:], 1)),
            txt_ids=places(noisy, (1, 1, 1, tokens.shape[1])),
            return_dict=False,
            **guidance.guidance_argument(model, condition, noisy),
        )[0]
        return self.unpack(output, noisy)

    def encode(self, pipeline: Any, texts: list[str], device: torch.device | str) -> Condition:
        with torch.no_grad():
            embeds, _ = pipeline.encode_prompt(list(texts), device=device)
        return {"prompt_embeds": embeds}

    def null(self, pipeline: Any, device: torch.device | str) -> Condition:
        return self.encode(pipeline, [""], device)

    def features(self, condition: Condition) -> Tensor:
        """Of the deepest of the three layers, at the last position: it has seen the whole prompt, on whichever side
        there is padding."""
        return condition["prompt_embeds"][:, -1].float().chunk(3, -1)[-1]

    def inputs(self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
        height, width = (side * self.scale(pipeline) for side in noise.shape[2:])
        return {"prompt_embeds": condition["prompt_embeds"], "latents": noise, "height": height, "width": width}

    def unpack(self, latents: Tensor, like: Tensor) -> Tensor:
        return unflat(latents, like.shape[2:])

    def to_autoencoder(self, latents: Tensor) -> Tensor:
        return pixel_shuffle(latents, PATCH)

    def from_autoencoder(self, latents: Tensor) -> Tensor:
        return pixel_unshuffle(latents, PATCH)

    def token_limit(self, pipeline: Any) -> TokenLimit | None:
        from diffusers.pipelines.flux2.pipeline_flux2 import format_input

        empty = format_input([""], system_message=pipeline.system_message)
        return chat.what_the_template_leaves(pipeline, pipeline.tokenizer.apply_chat_template(empty, tokenize=False)[0])

    def depends_on(self, pipeline: Any) -> dict[str, str]:
        return chat.template(pipeline) | {"system message": digest(pipeline.system_message)}

    def latent_shape(self, pipeline: Any, resolution: int | None = None) -> tuple[int, ...]:
        side = int(pipeline.default_sample_size) // PATCH
        if resolution is not None:
            side = side_of(resolution, self.scale(pipeline), 1)
        return int(pipeline.transformer.config.in_channels), side, side

    def scale(self, pipeline: Any) -> int:
        return int(pipeline.vae_scale_factor) * PATCH


class Flux2Klein(Flux2):
    """The same with a smaller text encoder, without a system message, and without the guidance scale as an input: the
    pipeline guides by the encoding of the empty text, or, if its config has ``is_distilled``, not at all."""

    pipelines = ("Flux2KleinPipeline",)
    takes_guidance = False

    def guides(self, pipeline: Any) -> bool:
        return not pipeline.config.is_distilled

    def inputs(self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
        inputs = super().inputs(pipeline, condition, null, noise)
        return inputs | {"negative_prompt_embeds": null["prompt_embeds"]}

    def returned(self, pipeline: Any, latents: Tensor, like: Tensor) -> Tensor:
        """The pipeline returns latents as the autoencoder has them."""
        return self.scaled(pipeline.vae, latents)

    def token_limit(self, pipeline: Any) -> TokenLimit | None:
        return chat.what_a_user_may_write(pipeline, enable_thinking=False)

    def depends_on(self, pipeline: Any) -> dict[str, str]:
        return chat.template(pipeline)


def places(like: Tensor, sides: tuple[int, ...]) -> Tensor:
    """(N, P, 4) the time, row, column and number of each of P positions: of an image, those of its latents; of a text,
    those of its tokens."""
    axes = [torch.arange(side, device=like.device) for side in sides]
    return torch.cartesian_prod(*axes).expand(len(like), -1, -1)
