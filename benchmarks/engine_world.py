"""Models, images and prompts for ``engine.py``: random weights in the true shapes, or in the same shapes made narrower.

Images and token ids are random and in memory, so that no candidate reads from disk or tokenises text.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

import aria
from aria.distill.engine.learner import HALF
from aria.distill.students import build_student, plan_student

TOKENS, REGIONS, PROMPTS, IMAGES = 77, 64, 1024, 64


@dataclass(frozen=True)
class Preset:
    """Sizes of the models, and how the student is trained."""

    channels: tuple[int, ...]
    """Numbers of channels of the UNet's stages; Stable Diffusion 1.x has (320, 640, 1280, 1280)."""
    context: int
    """Dimension of an encoded token."""
    latent: int
    """Width and height of the latents; those of images are eight times as large."""
    vae_channels: tuple[int, ...]
    groups: int
    heads: int
    batch: int
    students: tuple[str, ...]
    precision: str
    rounds: int
    steps: int
    """Number of steps of a candidate in one round."""
    text_layers: int = 12
    text_heads: int = 12

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the frozen models."""
        return HALF.get(self.precision, torch.float32)

    def with_values(self, **values: Any) -> Preset:
        return replace(self, **{name: value for name, value in values.items() if value is not None})


PRESETS = {
    "sd1": Preset(
        (320, 640, 1280, 1280), 768, 64, (128, 256, 512, 512), 32, 8, 64, ("bk-base", "bk-small", "bk-tiny"), "bf16",
        rounds=10, steps=10,
    ),
    "cpu": Preset(
        (64, 128, 256, 256), 160, 16, (24, 48, 96, 96), 8, 8, 8, ("bk-base",), "no", rounds=12, steps=1, text_heads=4,
    ),
    "tiny": Preset(
        (8, 8, 16, 16), 16, 8, (8, 8, 8, 8), 4, 2, 2, ("bk-tiny",), "no",
        rounds=2, steps=1, text_layers=1, text_heads=2,
    ),
}  # fmt: skip
"""``sd1`` is Stable Diffusion 1.x at full size; ``cpu`` has a fifth of its channels and a quarter of its image width;
``tiny`` is for tests."""


@dataclass(eq=False)
class World:
    """One teacher, the student's initial weights, and all training data."""

    preset: Preset
    device: torch.device
    teacher: UNet2DConditionModel
    begun: nn.Module
    pairs: list[tuple[str, str]]
    text: CLIPTextModel
    vae: AutoencoderKL
    pixels: Tensor
    """(N, 3, H, W) images in [−1, 1], in host memory."""
    own: Tensor
    """(N,) index of each image's prompt."""
    ids: Tensor
    """(M + 1, L) token ids of the prompts; the last is the empty text."""
    scheduler: DDPMScheduler = field(default_factory=lambda: DDPMScheduler(beta_schedule="scaled_linear"))

    def student(self) -> Any:
        """A copy to train."""
        return copy.deepcopy(self.begun).to(self.device)

    def encoded(self) -> tuple[Tensor, Tensor]:
        """(N, 4, h, w) latents and (M + 1, L, D) embeddings, computed once, on the device."""
        with torch.no_grad():
            embeds = [self.text(ids.to(self.device))[0] for ids in self.ids.split(64)]
            pixels = (some.to(self.device, self.vae.dtype) for some in self.pixels.split(8))
            latents = [self.vae.encode(some).latent_dist.mode() for some in pixels]
        scaled = torch.cat(latents).float() * self.vae.config.scaling_factor
        return scaled, torch.cat(embeds).to(self.preset.dtype)

    def sampler(self) -> aria.Sampler:
        pool = aria.Pool(columns={"region": [row % REGIONS for row in range(PROMPTS)]})
        partition = aria.partitioners.Labels("region").fit(pool).to(self.device)
        return aria.Sampler(partition, "bank", "proportional", timesteps=1000)


def world(preset: Preset, student: str, device: torch.device, seed: int = 0) -> World:
    """The world of a preset."""
    torch.manual_seed(seed)
    teacher = UNet2DConditionModel(
        sample_size=preset.latent,
        block_out_channels=preset.channels,
        cross_attention_dim=preset.context,
        attention_head_dim=preset.heads,
        norm_num_groups=preset.groups,
    )
    plan = plan_student(dict(teacher.config), preset=student)
    begun, _ = build_student(plan, teacher)
    vae = AutoencoderKL(
        block_out_channels=preset.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=preset.groups,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=1000,
            hidden_size=preset.context,
            intermediate_size=4 * preset.context,
            num_hidden_layers=preset.text_layers,
            num_attention_heads=preset.text_heads,
        )
    )
    for model in (teacher, vae, text):
        model.requires_grad_(False).eval().to(device)
        if preset.dtype != torch.float32:
            model.to(preset.dtype)
    side = 8 * preset.latent
    pixels = torch.rand(IMAGES, 3, side, side) * 2 - 1
    ids = torch.randint(1000, (PROMPTS + 1, TOKENS))
    own = torch.arange(IMAGES) * 7 % PROMPTS
    return World(preset, device, teacher, begun, plan.feature_pairs, text, vae, pixels, own, ids)
