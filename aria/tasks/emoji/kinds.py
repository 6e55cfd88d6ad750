"""The kinds of teacher: for each, its networks, how it reads captions, and the diffusers pipeline it becomes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from aria import checks
from aria.distill.models.denoisers import Condition, Denoiser
from aria.distill.models.denoisers.pixart import PixArt
from aria.distill.models.denoisers.stable_diffusion import StableDiffusion
from aria.distill.models.denoisers.stable_diffusion_3 import T5_TOKENS, StableDiffusion3
from aria.distill.settings.choices import PREDICTIONS
from aria.tasks.emoji import words
from aria.tasks.latent_teacher import CHANNELS, clip_config, ddim, new_unet, stable_diffusion

Tokens = dict[str, Tensor]
"""The inputs of the text encoders, one row for each text."""
Models = dict[str, nn.Module]
"""Trained together: the denoiser and its text encoders, by their names in the pipeline."""


class Kind(ABC):
    """One kind of teacher, with the sizes of its networks."""

    denoiser: ClassVar[Denoiser]
    """The adapter of its family."""
    component: ClassVar[str]
    """Name of the denoising network in the pipeline."""

    @property
    @abstractmethod
    def prediction(self) -> str:
        """What the denoiser predicts."""

    @abstractmethod
    def tokenizers(self, texts: Sequence[str]) -> dict[str, Any]:
        """Tokenizers for captions like ``texts``, by their names in the pipeline."""

    @abstractmethod
    def models(self, tokenizers: dict[str, Any], side: int) -> Models:
        """Fresh networks for latents of ``side`` cells a side; weights come from torch's global generator."""

    @abstractmethod
    def tokens(self, tokenizers: dict[str, Any], texts: Sequence[str]) -> Tokens:
        """What the text encoders read."""

    @abstractmethod
    def condition(self, models: Models, tokens: Tokens) -> Condition:
        """What the denoiser reads, as :meth:`aria.distill.models.denoisers.Denoiser.encode` has it."""

    @abstractmethod
    def scheduler(self) -> Any:
        """The scheduler of the pipeline."""

    @abstractmethod
    def pipeline(self, vae: Any, models: Models, tokenizers: dict[str, Any]) -> Any:
        """The whole as a pipeline of diffusers."""


@dataclass(frozen=True)
class UNet(Kind):
    """As Stable Diffusion 1.x and 2.x: a UNet, and a CLIP text encoder whose last states it attends to."""

    prediction: str = "epsilon"
    widths: tuple[int, ...] = (48, 64)
    text_width: int = 64
    text_layers: int = 2
    denoiser: ClassVar[Denoiser] = StableDiffusion()
    component: ClassVar[str] = "unet"

    def __post_init__(self) -> None:
        checks.one_of("prediction", self.prediction, PREDICTIONS[:2])

    def tokenizers(self, texts: Sequence[str]) -> dict[str, Any]:
        return {"tokenizer": words.clip(texts)}

    def models(self, tokenizers: dict[str, Any], side: int) -> Models:
        from transformers import CLIPTextModel

        unet = new_unet(self.widths, self.text_width, side)
        return {
            "unet": unet,
            "text_encoder": CLIPTextModel(clip_config(tokenizers["tokenizer"], self.text_width, self.text_layers)),
        }

    def tokens(self, tokenizers: dict[str, Any], texts: Sequence[str]) -> Tokens:
        return {"ids": words.padded(tokenizers["tokenizer"], texts)["input_ids"]}

    def condition(self, models: Models, tokens: Tokens) -> Condition:
        return {"prompt_embeds": models["text_encoder"](tokens["ids"])[0]}

    def scheduler(self) -> Any:
        return ddim(self.prediction)

    def pipeline(self, vae: Any, models: Models, tokenizers: dict[str, Any]) -> Any:
        return stable_diffusion(vae, models["unet"], models["text_encoder"], tokenizers["tokenizer"], self.scheduler())


@dataclass(frozen=True)
class CrossAttention(Kind):
    """As PixArt-α: a transformer that attends to T5's states and predicts the noise."""

    heads: int = 3
    head_width: int = 32
    layers: int = 8
    patch: int = 1
    text_width: int = 64
    text_layers: int = 2
    denoiser: ClassVar[Denoiser] = PixArt()
    component: ClassVar[str] = "transformer"
    prediction = "epsilon"

    def tokenizers(self, texts: Sequence[str]) -> dict[str, Any]:
        return {"tokenizer": words.t5(texts)}

    def models(self, tokenizers: dict[str, Any], side: int) -> Models:
        from diffusers import PixArtTransformer2DModel
        from transformers import T5Config, T5EncoderModel

        text = T5Config(
            vocab_size=len(tokenizers["tokenizer"]),
            d_model=self.text_width,
            d_kv=16,
            d_ff=2 * self.text_width,
            num_layers=self.text_layers,
            num_heads=max(1, self.text_width // 16),
            dropout_rate=0.0,
        )
        transformer = PixArtTransformer2DModel(
            num_attention_heads=self.heads,
            attention_head_dim=self.head_width,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            num_layers=self.layers,
            cross_attention_dim=self.heads * self.head_width,
            sample_size=side,
            patch_size=self.patch,
            caption_channels=self.text_width,
            use_additional_conditions=False,
        )
        return {"transformer": transformer, "text_encoder": T5EncoderModel(text)}

    def tokens(self, tokenizers: dict[str, Any], texts: Sequence[str]) -> Tokens:
        """As many tokens as the longest text has: further ones would be masked."""
        read = tokenizers["tokenizer"](list(texts), padding="longest", return_tensors="pt")
        return {"ids": read["input_ids"], "mask": read["attention_mask"]}

    def condition(self, models: Models, tokens: Tokens) -> Condition:
        states = models["text_encoder"](tokens["ids"], attention_mask=tokens["mask"])[0]
        return {"prompt_embeds": states, "mask": tokens["mask"]}

    def scheduler(self) -> Any:
        return ddim(self.prediction)

    def pipeline(self, vae: Any, models: Models, tokenizers: dict[str, Any]) -> Any:
        from diffusers import PixArtAlphaPipeline

        return PixArtAlphaPipeline(vae=vae, scheduler=self.scheduler(), **models, **tokenizers)


@dataclass(frozen=True)
class JointAttention(Kind):
    """As Stable Diffusion 3: a transformer of two streams for image and text, which matches flows. Two CLIPs read the
    captions; there is no T5, whose place the pipeline fills with zeros."""

    heads: int = 3
    head_width: int = 32
    layers: int = 4
    patch: int = 2
    text_width: int = 48
    text_layers: int = 2
    denoiser: ClassVar[Denoiser] = StableDiffusion3()
    component: ClassVar[str] = "transformer"
    prediction = "flow_prediction"

    def tokenizers(self, texts: Sequence[str]) -> dict[str, Any]:
        tokenizer = words.clip(texts)
        return {"tokenizer": tokenizer, "tokenizer_2": tokenizer}

    def models(self, tokenizers: dict[str, Any], side: int) -> Models:
        from diffusers import SD3Transformer2DModel
        from transformers import CLIPTextModelWithProjection

        text = clip_config(tokenizers["tokenizer"], self.text_width, self.text_layers)
        transformer = SD3Transformer2DModel(
            sample_size=side,
            patch_size=self.patch,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            num_layers=self.layers,
            num_attention_heads=self.heads,
            attention_head_dim=self.head_width,
            joint_attention_dim=2 * self.text_width,
            caption_projection_dim=self.heads * self.head_width,
            pooled_projection_dim=2 * self.text_width,
            pos_embed_max_size=side // self.patch,
            qk_norm="rms_norm",
        )
        clips = {name: CLIPTextModelWithProjection(text) for name in ("text_encoder", "text_encoder_2")}
        return {"transformer": transformer, **clips}

    def tokens(self, tokenizers: dict[str, Any], texts: Sequence[str]) -> Tokens:
        return {"ids": words.padded(tokenizers["tokenizer"], texts)["input_ids"]}

    def condition(self, models: Models, tokens: Tokens) -> Condition:
        read = [
            models[name](tokens["ids"], output_hidden_states=True) for name in ("text_encoder", "text_encoder_2")
        ]
        states = torch.cat([one.hidden_states[-2] for one in read], -1)
        zeros = states.new_zeros(len(states), T5_TOKENS, states.shape[-1])
        return {
            "prompt_embeds": torch.cat([states, zeros], 1),
            "pooled": torch.cat([one.text_embeds for one in read], -1),
        }

    def scheduler(self) -> Any:
        from diffusers import FlowMatchEulerDiscreteScheduler

        return FlowMatchEulerDiscreteScheduler()

    def pipeline(self, vae: Any, models: Models, tokenizers: dict[str, Any]) -> Any:
        from diffusers import StableDiffusion3Pipeline

        absent = {"text_encoder_3": None, "tokenizer_3": None}
        return StableDiffusion3Pipeline(vae=vae, scheduler=self.scheduler(), **models, **tokenizers, **absent)


KINDS = ("unet-epsilon", "unet-v", "cross-attention", "joint-attention")
"""Names of the kinds."""
