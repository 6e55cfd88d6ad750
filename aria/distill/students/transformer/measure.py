"""How large a transformer is, counted as :mod:`aria.distill.students.measure` says."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from aria.distill.students.config import Config
from aria.distill.students.measure import Size, measured
from aria.distill.students.transformer.family import Family


def transformer_size(
    family: Family, config: Config, *, side: int | None = None, tokens: int | None = None, attention: bool = True
) -> Size:
    """The size of the model that ``config`` describes; ``side`` is the model's own unless given."""
    return measured(
        family.model,
        config,
        lambda: transformer_inputs(family, config, side=side, tokens=tokens),
        attention=attention,
    )


def transformer_inputs(
    family: Family, config: Config, *, side: int | None = None, tokens: int | None = None, batch: int = 1
) -> dict[str, Any]:
    """Arguments for one forward pass, all zero, on the default device."""
    tokens = family.tokens if tokens is None else tokens
    if family.video is not None:
        return _video_inputs(config, family.video if side is None else (family.video[0], side, side), tokens, batch)
    side = side or family.side or config["sample_size"]
    if "all_patch_size" in config:
        return _lists(config, side, tokens, batch)
    if "axes_dims_rope" in config:
        return _packed_inputs(family, config, side // 2, tokens, batch)
    inputs: dict[str, Any] = {
        "hidden_states": torch.zeros(batch, config["in_channels"], side, side),
        "timestep": torch.zeros(batch, dtype=torch.long),
    }
    if "joint_attention_dim" in config:
        inputs["encoder_hidden_states"] = torch.zeros(batch, tokens, config["joint_attention_dim"])
        if "pooled_projection_dim" in config:
            inputs["pooled_projections"] = torch.zeros(batch, config["pooled_projection_dim"])
    elif "cap_feat_dim" in config:
        inputs["encoder_hidden_states"] = torch.zeros(batch, tokens, config["cap_feat_dim"])
        inputs["encoder_attention_mask"] = torch.ones(batch, tokens, dtype=torch.long, device="cpu")  # it is read
    elif "caption_channels" in config:
        width = config["caption_channels"] or config["cross_attention_dim"]
        inputs["encoder_hidden_states"] = torch.zeros(batch, tokens, width)
        if "use_additional_conditions" in config:
            size = {"resolution": torch.zeros(batch, 2), "aspect_ratio": torch.zeros(batch, 1)}
            inputs["added_cond_kwargs"] = size if family.unit(config) % 3 == 0 else dict.fromkeys(size)
    else:
        inputs["class_labels"] = torch.zeros(batch, dtype=torch.long)
    return inputs


def _video_inputs(config: Config, latents: tuple[int, int, int], tokens: int, batch: int) -> dict[str, Any]:
    """Of models of videos, which take latents as they are or, as LTX-Video does, packed."""
    inputs: dict[str, Any] = {
        "hidden_states": torch.zeros(batch, config["in_channels"], *latents),
        "encoder_hidden_states": torch.zeros(batch, tokens, config.get("text_dim") or config["caption_channels"]),
        "timestep": torch.zeros(batch, dtype=torch.long),
    }
    if "text_dim" in config:
        return inputs
    inputs["hidden_states"] = inputs["hidden_states"].flatten(2).transpose(1, 2)
    sides = dict(zip(("num_frames", "height", "width"), latents, strict=True))
    return inputs | sides | {"encoder_attention_mask": torch.ones(batch, tokens)}


def _lists(config: Config, side: int, tokens: int, batch: int) -> dict[str, Any]:
    """Of Z-Image, whose images have an axis of time, and whose texts may be of different lengths."""
    images = torch.zeros(batch, config["in_channels"], 1, side, side)
    texts = torch.zeros(batch, tokens, config["cap_feat_dim"])
    return {"x": list(images), "t": torch.zeros(batch), "cap_feats": list(texts)}


def _packed_inputs(family: Family, config: Config, side: int, tokens: int, batch: int) -> dict[str, Any]:
    """Of Flux, FLUX.2 and Qwen-Image, whose latents are packed."""
    inputs: dict[str, Any] = {
        "hidden_states": torch.zeros(batch, side * side, config["in_channels"]),
        "encoder_hidden_states": torch.zeros(batch, tokens, config["joint_attention_dim"]),
        "timestep": torch.zeros(batch),
    }
    if "img_ids" not in inspect.signature(family.model.forward).parameters:
        return inputs | {"img_shapes": [[(1, side, side)]] * batch}
    if config["guidance_embeds"]:
        inputs["guidance"] = torch.ones(batch)
    if "pooled_projection_dim" in config:
        inputs["pooled_projections"] = torch.zeros(batch, config["pooled_projection_dim"])
    axes = len(config["axes_dims_rope"])
    return inputs | {"img_ids": torch.zeros(side * side, axes), "txt_ids": torch.zeros(tokens, axes)}
