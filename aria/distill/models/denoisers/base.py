"""The interface between the engine and a family of diffusion models."""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from aria.distill.models.denoisers import guidance as scales
from aria.distill.objectives.base import Objective

Condition = dict[str, Tensor]
"""The conditioning inputs of a denoiser by name: tensors with one row per sample."""


LEVELS = 1000
"""What pipelines that pass their models a noise level from 0 to 1 divide timesteps by."""


class TokenLimit(NamedTuple):
    """How much of a text a family reads."""

    tokenizer: Any
    tokens: int
    """Tokens, those of beginning and end included, after which a text is cut."""


Evaluate = Callable[[nn.Module, Tensor, Tensor, Condition], Tensor]
"""One forward pass: (model, noisy, timestep, condition) → output. All that training needs of a denoiser."""


class Denoiser(ABC):
    """Everything that differs between families of models, and nothing else. It has no state.

    The model itself is passed in, so that it may be wrapped (for several ranks, compiled) or be the teacher's, the
    student's or their moving average.
    """

    pipelines: ClassVar[tuple[str, ...]]
    """Names of the diffusers pipelines of this family."""
    takes_guidance: ClassVar[bool] = False
    """Whether its models can take the guidance scale as an input, and its pipelines then pass it."""
    scale_argument: ClassVar[str] = "guidance_scale"
    """What its pipelines call the guidance scale."""
    prompt_argument: ClassVar[str] = "prompt"
    """How a prompt is given to its pipelines, in the call that a model card shows."""
    unguided: ClassVar[float] = 1.0
    """The scale at which its pipelines do not guide."""
    negative_prompt: ClassVar[str | None] = None
    """The text that stands for no text where its pipelines guide only if they are given one; None if they guide
    anyway."""

    def refusal(self, pipeline: Any) -> str | None:
        """Why a pipeline of the family is refused: it works in another way than the adapter; None if it does not."""
        return None

    def guides(self, pipeline: Any) -> bool:
        """Whether the pipeline guides a model without that input, by the null condition; else it ignores the scale."""
        return True

    @abstractmethod
    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """(B, …) the model's raw output for noised latents at ``(B,)`` timesteps under ``condition``.

        Of a model that predicts a variance as well, it is the first half of the channels, the one that pipelines use.
        """

    @abstractmethod
    def encode(self, pipeline: Any, texts: list[str], device: torch.device | str) -> Condition:
        """The condition of each text, (N, …) each."""

    @abstractmethod
    def null(self, pipeline: Any, device: torch.device | str) -> Condition:
        """The condition of no text, (1, …) each, exactly as the pipeline has it when it guides."""

    @abstractmethod
    def features(self, condition: Condition) -> Tensor:
        """(N, D) float32, one vector per condition, by which similar conditions can be put into one region."""

    @abstractmethod
    def inputs(self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
        """Keyword arguments of the pipeline's call for these conditions, the null condition and the starting noise."""

    def guide(self, without: Tensor, conditioned: Tensor, scale: Tensor) -> Tensor:
        """(B, …) guided outputs, from those under the null condition and under the sample's own, at ``(B,)`` scales."""
        return scales.classifier_free(without, conditioned, scale)

    def columns(self, pipeline: Any, texts: Sequence[str]) -> dict[str, list[str]]:
        """Columns of the pool that the family derives from each text."""
        return {}

    def token_limit(self, pipeline: Any) -> TokenLimit | None:
        """The limit of the text encoder that takes the longest texts; None where conditions are no texts."""
        for name in ("tokenizer", "tokenizer_2"):
            if (tokenizer := getattr(pipeline, name, None)) is not None:
                return TokenLimit(tokenizer, int(tokenizer.model_max_length))
        return None

    def depends_on(self, pipeline: Any) -> dict[str, str]:
        """What conditions depend on besides the text encoders, by name."""
        return {}

    def terms(self, model: Any) -> tuple[Objective, ...]:
        """Terms of the loss that a student of ``model`` needs whatever else it is trained with."""
        return ()

    def idle(self, model: Any) -> tuple[nn.Module, ...]:
        """Modules of ``model`` on which its output does not depend. They are not trained: ranks wait for the gradients
        of all weights that are."""
        return ()

    def generate(
        self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor, *, steps: int, guidance: float
    ) -> Tensor:
        """(N, …) latents that the pipeline makes from ``noise``, scaled as its denoiser sees them."""
        rows = len(noise)
        null = {name: _beside(value, noise).expand(rows, *value.shape[1:]) for name, value in null.items()}
        condition = {name: _beside(value, noise) for name, value in condition.items()}
        inputs = self.inputs(pipeline, condition, null, noise)
        with torch.no_grad():
            scale = {self.scale_argument: guidance}
            latents: Tensor = pipeline(
                **inputs, **scale, num_inference_steps=steps, output_type="latent", return_dict=False
            )[0]
        return self.returned(pipeline, latents, noise)

    def returned(self, pipeline: Any, latents: Tensor, like: Tensor) -> Tensor:
        """(N, …) latents that the pipeline returns, in the shape of ``like`` and scaled as its denoiser sees them."""
        return self.unpack(latents, like)

    def unpack(self, latents: Tensor, like: Tensor) -> Tensor:
        """(N, …) latents of the pipeline in the shape of ``like``; most pipelines have them in that shape."""
        return latents

    def decode(self, pipeline: Any, latents: Tensor) -> Tensor:
        """(N, 3, H, W) images in [0, 1], or (N, 3, F, H, W) videos."""
        vae = pipeline.vae
        shift, factor = scaling_of(vae, latents)
        latents = self.to_autoencoder(latents / factor + shift)
        time = (latents.new_zeros(len(latents)),) if vae.config.get("timestep_conditioning") else ()  # and no noise
        with torch.no_grad():
            pixels: Tensor = vae.decode(latents.to(vae.dtype), *time, return_dict=False)[0]
        return (pixels.float() / 2 + 0.5).clamp(0, 1)

    def encode_images(
        self, pipeline: Any, pixels: Tensor, generator: torch.Generator | list[torch.Generator] | None = None
    ) -> Tensor:
        """(N, C, h, w) latents of ``(N, 3, H, W)`` images in [−1, 1], scaled as the denoiser sees them; of videos,
        (N, C, f, h, w) of ``(N, 3, F, H, W)``."""
        vae = pipeline.vae
        with torch.no_grad():
            return self.scaled(vae, vae.encode(pixels.to(vae.dtype)).latent_dist.sample(generator))

    def scaled(self, vae: Any, latents: Tensor) -> Tensor:
        """An autoencoder's latents, as the denoiser sees them."""
        latents = self.from_autoencoder(latents)
        shift, factor = scaling_of(vae, latents)
        return (latents - shift) * factor

    def to_autoencoder(self, latents: Tensor) -> Tensor:
        """Latents that are scaled back in the shape that the autoencoder has them in; most families keep them so."""
        return latents

    def from_autoencoder(self, latents: Tensor) -> Tensor:
        """The reverse of :meth:`to_autoencoder`."""
        return latents

    def side_in_condition(self, pipeline: Any) -> int | None:
        """The image size that is part of every condition, in pixels a side, and that images then must have; None in
        families without one."""
        return None

    def shape(self, pipeline: Any, resolution: int | None = None, frames: int | None = None) -> tuple[int, ...]:
        """The shape of one sample's latents: (C, H, W) of an image, (C, F, H, W) of a video of so many ``frames``."""
        channels, height, width = self.latent_shape(pipeline, resolution)
        if (count := self.frames(pipeline, frames)) is None:
            return channels, height, width
        return channels, (count - 1) // self.time_scale(pipeline) + 1, height, width

    def frames(self, pipeline: Any, wanted: int | None = None) -> int | None:
        """How many frames a video has, by default or as ``wanted``; None in families that make images."""
        if wanted is not None:
            raise ValueError(f"num_frames is for pipelines that make videos; a {type(pipeline).__name__} makes images")
        return None

    def time_scale(self, pipeline: Any) -> int:
        """Frames for each latent of a video after the first, which is one frame."""
        return 1

    def latent_shape(self, pipeline: Any, resolution: int | None = None) -> tuple[int, ...]:
        """(C, H, W) of the latents of an image or a frame: at the model's own size, or for ``resolution`` pixels a
        side."""
        config = self.model_of(pipeline).config
        side, fixed = config.sample_size, self.side_in_condition(pipeline)
        if fixed is not None and resolution not in (None, fixed):
            raise ValueError(f"resolution must be {fixed} for this pipeline, as in its conditions, got {resolution}")
        if resolution is not None:
            side = side_of(resolution, self.scale(pipeline), int(config.get("patch_size", 1)))
        height, width = side if isinstance(side, list | tuple) else (side, side)
        return int(config.in_channels), int(height), int(width)

    def scale(self, pipeline: Any) -> int:
        """Pixels a side for each of a latent."""
        return int(2 ** (len(pipeline.vae.config.block_out_channels) - 1))

    def model_of(self, pipeline: Any) -> Any:
        """The pipeline's denoising model."""
        from aria.distill.models.pipelines import component_of

        return getattr(pipeline, component_of(pipeline))


def _beside(value: Tensor, noise: Tensor) -> Tensor:
    """A condition's tensor on the device of the noise and in its type; classes and masks stay integers."""
    return value.to(noise) if value.is_floating_point() else value.to(noise.device)


def side_of(resolution: int, scale: int, patch: int) -> int:
    """Latents a side of images of ``resolution``, ``scale`` pixels each, of which a model takes ``patch`` as one
    position."""
    if resolution % (scale * patch):
        raise ValueError(f"resolution must be a multiple of {scale * patch} for this pipeline, got {resolution}")
    return resolution // scale


def shift_of(vae: Any) -> float:
    """What is subtracted from an autoencoder's latents before they are scaled; not all of them have it."""
    return float(vae.config.get("shift_factor") or 0.0)


def scaling_of(vae: Any, latents: Tensor) -> tuple[Tensor, Tensor] | tuple[float, float]:
    """What is subtracted from an autoencoder's latents, and what they are then multiplied by: one number each, or one
    for each channel, with which ``latents`` (N, C, …) then have mean 0 and standard deviation 1."""
    if (found := statistics_of(vae)) is None:
        return shift_of(vae), float(vae.config.scaling_factor)
    shape = (-1,) + (1,) * (latents.ndim - 2)
    mean, std = (torch.as_tensor(values).to(latents).view(shape) for values in found)
    return mean, float(vae.config.get("scaling_factor", 1.0)) / std


def statistics_of(vae: Any) -> tuple[Any, Any] | None:
    """Mean and standard deviation of each channel of an autoencoder's latents, where it has them: among its weights, or
    in a config without a number for all channels."""
    stored = dict(vae.named_buffers())
    if "bn.running_mean" in stored:
        return stored["bn.running_mean"], (stored["bn.running_var"] + vae.config.batch_norm_eps).sqrt()
    if "latents_mean" in stored:
        return stored["latents_mean"], stored["latents_std"]
    return None if "scaling_factor" in vae.config else (vae.config.latents_mean, vae.config.latents_std)


def default_of(function: Any, argument: str) -> Any:
    """What a pipeline's function takes for ``argument`` if it is given none."""
    return inspect.signature(function).parameters[argument].default


def digest(text: str) -> str:
    """A short hash of ``text``."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def mean_of_tokens(condition: Condition) -> Tensor:
    """(N, D) float32, the mean of ``prompt_embeds`` over the tokens that ``mask`` says there are; without a mask, over
    those that are not zeros."""
    tokens = condition["prompt_embeds"].float()
    mask = condition.get("mask", tokens.any(-1)).float()[..., None]
    return (tokens * mask).sum(1) / mask.sum(1)


def with_mask(condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
    """The inputs of a pipeline that takes tokens and their mask."""
    return {
        "prompt_embeds": condition["prompt_embeds"],
        "prompt_attention_mask": condition["mask"],
        "negative_prompt": None,
        "negative_prompt_embeds": null["prompt_embeds"],
        "negative_prompt_attention_mask": null["mask"],
        "latents": noise,
    }


def with_pooled(condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
    """The inputs of a pipeline that takes tokens and a pooled embedding."""
    return {
        "prompt_embeds": condition["prompt_embeds"],
        "pooled_prompt_embeds": condition["pooled"],
        "negative_prompt_embeds": null["prompt_embeds"],
        "negative_pooled_prompt_embeds": null["pooled"],
        "latents": noise,
    }
