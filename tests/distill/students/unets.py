"""The configs of known UNets, and small real ones."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from aria.distill.students.config import public

SD14 = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "transformer_layers_per_block": 1,
    "norm_num_groups": 32,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD21 = SD14 | {
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
}
SDXL = SD14 | {
    "sample_size": 128,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [320, 640, 1280],
    "transformer_layers_per_block": [1, 2, 10],
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}

SMALL = {"sample_size": 8, "norm_num_groups": 2, "cross_attention_dim": 8, "attention_head_dim": 2}
SMALL_SD = SD14 | SMALL | {"block_out_channels": [8, 16, 32, 32]}
SMALL_SD2 = SD21 | SMALL | {"block_out_channels": [8, 16, 32, 32], "attention_head_dim": [2, 4, 8, 8]}
SMALL_SDXL = (
    SDXL
    | SMALL
    | {
        "block_out_channels": [8, 16, 32],
        "attention_head_dim": [2, 4, 8],
        "transformer_layers_per_block": [1, 2, 3],
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 8 + 6 * 4,
    }
)
TWO_STAGES = SMALL_SD | {
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [4, 8],
}


def full(config: dict[str, Any]) -> dict[str, Any]:
    """``config`` with the defaults of diffusers, as a loaded model has it."""
    return json.loads(_full(json.dumps(config)))


@cache
def _full(config: str) -> str:
    return json.dumps(public(on_meta(json.loads(config)).config))


def on_meta(config: dict[str, Any]) -> UNet2DConditionModel:
    """The UNet without memory for its weights."""
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(config)


@cache
def _teacher(config: str) -> UNet2DConditionModel:
    return unet(json.loads(config))


def teacher_unet(config: dict[str, Any]) -> UNet2DConditionModel:
    """The same UNet for all tests, to look at only."""
    return _teacher(json.dumps(config))


def unet(config: dict[str, Any], seed: int = 0) -> UNet2DConditionModel:
    """A UNet whose every parameter is random, also those that start as ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    model = UNet2DConditionModel.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def inputs(config: dict[str, Any], side: int = 8, seed: int = 1) -> dict[str, Any]:
    """Random arguments for two samples."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    kwargs: dict[str, Any] = {
        "sample": noise(2, 4, side, side),
        "timestep": torch.tensor([3, 700]),
        "encoder_hidden_states": noise(2, 5, config["cross_attention_dim"]),
    }
    if config.get("addition_embed_type"):
        kwargs["added_cond_kwargs"] = {"text_embeds": noise(2, 8), "time_ids": noise(2, 6)}
    return kwargs


def parameters(config: dict[str, Any]) -> int:
    return sum(parameter.numel() for parameter in on_meta(config).parameters())
