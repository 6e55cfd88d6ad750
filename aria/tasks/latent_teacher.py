"""Parts from which tasks train a small latent-diffusion teacher: an autoencoder, a text encoder, and two losses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from aria.distill.models.schedule import NoiseSchedule
from aria.progress import Bar
from aria.tasks.course import Course, fit

CHANNELS, SCALE = 8, 4
"""Channels of a latent, and pixels a side for each of its cells."""
Predict = Callable[[Tensor, Tensor], Tensor]
"""(noisy, timestep) → the denoiser's output under the batch's conditions."""
Made = TypeVar("Made")


def seeded(seed: int, make: Callable[[], Made]) -> Made:
    """What ``make`` returns when torch's global generator begins with ``seed``; the generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def trained(
    model: nn.Module,
    loss: Callable[[torch.Generator], Tensor],
    course: Course,
    name: str,
    seed: int,
    part: Path,
    bar: Bar,
) -> None:
    """Train a model; a stopped training is kept in the folder ``part`` and continued."""
    half = next(model.parameters()).device.type == "cuda"
    with bar(name) as progress:
        saved = part / f"{name}.safetensors"
        fit(model, loss, course, seed=seed, progress=progress, saved=saved, half=half)


def new_autoencoder(widths: tuple[int, ...], side: int) -> Any:
    """An autoencoder of three stages for images of ``side`` pixels, whose latents are a quarter of that a side."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=CHANNELS,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=side,
        mid_block_add_attention=False,
    )


def autoencoder_loss(model: Any, images: Tensor, generator: torch.Generator) -> Tensor:
    """L1 + L2 + 1e−4 KL of images (N, 3, H, W) in [−1, 1]."""
    latents = model.encode(images).latent_dist
    noise = torch.randn(latents.mean.shape, generator=generator, device=images.device)
    error = (model.decode(latents.mean + latents.std * noise).sample - images).float()
    closeness: Tensor = latents.kl().mean() / latents.mean[0].numel()
    total: Tensor = error.abs().mean() + error.square().mean() + 1e-4 * closeness
    return total


def denoising_loss(
    predict: Predict, prediction: str, schedule: NoiseSchedule, clean: Tensor, generator: torch.Generator
) -> Tensor:
    """The mean squared error of a ``prediction`` of noised latents.

    High noise, where captions matter most, is drawn more often; an error in the noise is weighted as the velocity's.
    """
    level = torch.rand(len(clean), generator=generator, device=clean.device).sqrt() * len(schedule)
    timestep = level.long().clamp(max=len(schedule) - 1)
    noise = torch.randn(clean.shape, generator=generator, device=clean.device)
    output = predict(schedule.add_noise(clean, noise, timestep), timestep).float()
    error: Tensor = (output - schedule.target(prediction, clean, noise, timestep)).square().mean((1, 2, 3))
    if prediction == "epsilon":
        error = error / schedule.alpha[timestep].square()
    return error.mean()


def clip_config(tokenizer: Any, width: int, layers: int) -> Any:
    """A small CLIP text encoder for the tokens of ``tokenizer``."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 16),
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def new_unet(widths: tuple[int, ...], text_width: int, side: int) -> Any:
    """A UNet for latents of ``side`` cells a side, with cross-attention in every stage."""
    from diffusers import UNet2DConditionModel

    stages = len(widths)
    return UNet2DConditionModel(
        sample_size=side,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=widths,
        down_block_types=("CrossAttnDownBlock2D",) * stages,
        up_block_types=("CrossAttnUpBlock2D",) * stages,
        layers_per_block=2,
        cross_attention_dim=text_width,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def ddim(prediction: str) -> Any:
    """The noise levels of Stable Diffusion, sampled by DDIM, for a model with this ``prediction`` type."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
        prediction_type=prediction,
    )


def stable_diffusion(vae: Any, unet: Any, text_encoder: Any, tokenizer: Any, scheduler: Any) -> Any:
    """The five parts as a pipeline of diffusers, without a safety checker."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
