"""How large a UNet is, counted as :mod:`aria.distill.students.measure` says."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel

from aria.distill.students.config import Config
from aria.distill.students.measure import Size, measured

TOKENS = 77
"""Tokens of context: what CLIP's tokenizer pads a prompt to."""
SIDE = 64
"""Side of the latents where the config does not say."""


def size(config: Config, *, side: int | None = None, tokens: int = TOKENS, attention: bool = True) -> Size:
    """The size of the UNet that ``config`` describes; ``side`` is the config's ``sample_size`` unless given."""
    return measured(
        UNet2DConditionModel, config, lambda: example_inputs(config, side=side, tokens=tokens), attention=attention
    )


def example_inputs(config: Config, *, side: int | None = None, tokens: int = TOKENS, batch: int = 1) -> dict[str, Any]:
    """Arguments for one forward pass of the UNet that ``config`` describes, all zero, on the default device."""
    for key, known in (("addition_embed_type", (None, "text_time")), ("encoder_hid_dim_type", (None, "text_proj"))):
        if config.get(key) not in known:
            raise ValueError(f"multiply-adds are counted for {key} {' or '.join(map(str, known))}, not {config[key]!r}")
    if config.get("class_embed_type") is not None or config.get("num_class_embeds") is not None:
        raise ValueError("multiply-adds are not counted for a UNet with class embeddings")
    side = side or _side(config.get("sample_size"))
    context = config.get("encoder_hid_dim") or config["cross_attention_dim"]
    if not isinstance(context, int):
        context = context[0]
    inputs: dict[str, Any] = {
        "sample": torch.zeros(batch, config["in_channels"], side, side),
        "timestep": torch.zeros(batch, dtype=torch.long),
        "encoder_hidden_states": torch.zeros(batch, tokens, context),
    }
    if config.get("addition_embed_type") == "text_time":
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        inputs["added_cond_kwargs"] = {"text_embeds": torch.zeros(batch, pooled), "time_ids": torch.zeros(batch, 6)}
    return inputs


def _side(sample_size: Any) -> int:
    if sample_size is None:
        return SIDE
    return int(sample_size if isinstance(sample_size, int) else max(sample_size))
