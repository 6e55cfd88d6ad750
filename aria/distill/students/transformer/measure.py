"""How large a transformer is, counted as :mod:`.measure` counts a UNet."""

from __future__ import annotations

from typing import Any

import torch

from aria.distill.students.transformer.family import Family
from aria.distill.students.unet.measure import Size, count_macs
from aria.distill.students.unet.stages import Config


def transformer_size(
    family: Family, config: Config, *, side: int | None = None, tokens: int | None = None, attention: bool = True
) -> Size:
    """The size of the model that ``config`` describes; ``side`` is the config's ``sample_size`` unless given."""
    with torch.device("meta"):
        model = family.model.from_config(dict(config)).eval()
        inputs = transformer_inputs(family, config, side=side, tokens=tokens)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Size(parameters, count_macs(model, attention=attention, **inputs))


def transformer_inputs(
    family: Family, config: Config, *, side: int | None = None, tokens: int | None = None, batch: int = 1
) -> dict[str, Any]:
    """Arguments for one forward pass, all zero, on the default device."""
    side, tokens = side or config["sample_size"], family.tokens if tokens is None else tokens
    inputs: dict[str, Any] = {
        "hidden_states": torch.zeros(batch, config["in_channels"], side, side),
        "timestep": torch.zeros(batch, dtype=torch.long),
    }
    if "joint_attention_dim" in config:
        inputs["encoder_hidden_states"] = torch.zeros(batch, tokens, config["joint_attention_dim"])
        inputs["pooled_projections"] = torch.zeros(batch, config["pooled_projection_dim"])
    elif "caption_channels" in config:
        width = config["caption_channels"] or config["cross_attention_dim"]
        inputs["encoder_hidden_states"] = torch.zeros(batch, tokens, width)
        size = {"resolution": torch.zeros(batch, 2), "aspect_ratio": torch.zeros(batch, 1)}
        inputs["added_cond_kwargs"] = size if family.unit(config) % 3 == 0 else dict.fromkeys(size)
    else:
        inputs["class_labels"] = torch.zeros(batch, dtype=torch.long)
    return inputs
