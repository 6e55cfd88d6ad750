"""A teacher to try the commands with: a complete Stable Diffusion pipeline, small enough to train students on a CPU.

    python examples/tiny_teacher.py teacher

It has the components, block types and folder layout of Stable Diffusion 1.x, with random weights; nothing is
downloaded. Its images are noise, 16 × 16 pixels, and students learn to generate the same noise for the same prompts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

WIDTH, LENGTH = 32, 77


def tokenizer_by_letter() -> CLIPTokenizer:
    """CLIP's tokenizer without a vocabulary: one token per letter."""
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({word: token for token, word in enumerate(words)}, [], model_max_length=LENGTH)


def pipeline(seed: int = 0) -> StableDiffusionPipeline:
    """The four stages of Stable Diffusion's UNet, its autoencoder and its text encoder, all narrow."""
    torch.manual_seed(seed)
    tokenizer = tokenizer_by_letter()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=LENGTH, projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16, 16, 16), cross_attention_dim=WIDTH, attention_head_dim=2,
        norm_num_groups=4,
    )  # fmt: skip
    autoencoder = AutoencoderKL(
        sample_size=16, block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=autoencoder, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def main() -> None:
    """Create the pipeline and save it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder to create")
    folder = parser.parse_args().folder
    if folder.exists():
        parser.error(f"{folder} already exists")
    pipeline().save_pretrained(folder)
    print(folder)


if __name__ == "__main__":
    main()
