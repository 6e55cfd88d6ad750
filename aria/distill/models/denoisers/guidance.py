"""The guidance scale as an input: how diffusers' models take it, and how a UNet without that input is given it.

A pipeline of Stable Diffusion whose UNet has a ``time_cond_proj_dim`` hands it an embedding of ``guidance_scale - 1``,
which is projected and added to that of the timestep, and then asks it once a step, without the null condition. A
transformer of Flux with ``guidance_embeds`` is handed the scale itself, which it embeds as it embeds the timestep.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

GUIDANCE = "guidance"
"""What the scale is called in a condition, and as a coordinate that partitions draw."""
Guide = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(outputs under the null condition, outputs under the samples' own, ``(B,)`` scales) → guided outputs."""
WIDTH = 256
"""Of the embedding, where a model is opened to it; what latent consistency models have."""


def classifier_free(without: Tensor, conditioned: Tensor, scale: Tensor) -> Tensor:
    """(B, …) outputs guided by ``(B,)`` scales, from those under the null condition and under the sample's own."""
    return without + scale.view(-1, *(1,) * (without.ndim - 1)) * (conditioned - without)


def of_length(guided: Tensor, conditioned: Tensor) -> Tensor:
    """``guided`` with the norm of ``conditioned`` along the last axis, as some pipelines rescale what they guide."""
    length, wanted = (output.square().sum(-1, keepdim=True).sqrt() for output in (guided, conditioned))
    return guided * (wanted / length)


def embedding(scale: Tensor, width: int) -> Tensor:
    """(B, width) sines and cosines of 1000(w − 1), exactly as the pipelines make them of ``(B,)`` scales."""
    half = width // 2
    rates = torch.exp(torch.arange(half, device=scale.device) * -(math.log(10000.0) / (half - 1)))
    angle = ((scale.float() - 1) * 1000)[:, None] * rates
    return nn.functional.pad(torch.cat([angle.sin(), angle.cos()], 1), (0, width % 2))


def guidance_argument(model: nn.Module, condition: dict[str, Tensor], noisy: Tensor) -> dict[str, Tensor]:
    """The keyword argument with the scale in ``condition``; none for a model that takes no scale."""
    takes, scale = is_open(model), condition.get(GUIDANCE)
    if not takes and scale is None:
        return {}
    name = type(model).__name__
    if not takes:
        raise ValueError(f"this {name} does not take the guidance scale as an input: open it with take_guidance")
    if scale is None:
        raise ValueError(f"this {name} takes the guidance scale as an input, and is given none: set guidance_max")
    width = width_of(model)
    return {"guidance": scale} if width is None else {"timestep_cond": embedding(scale, width).to(noisy.dtype)}


def is_open(model: Any) -> bool:
    """Whether a model takes the scale as an input."""
    return width_of(model) is not None or bool(getattr(model, "config", {}).get("guidance_embeds"))


def width_of(model: Any) -> int | None:
    """How wide an embedding of the scale a UNet takes; None if a model takes none."""
    width = getattr(model, "config", {}).get("time_cond_proj_dim")
    return None if width is None else int(width)


def take_guidance(model: Any) -> Any:
    """The model with the scale as an input that trains, in place; a new one is projected by zeros, so that at first
    the outputs are what they were. An input that embeds the scale itself is left as it is."""
    if is_open(model) and width_of(model) is None:
        return model
    time: Any = getattr(model, "time_embedding", None)
    if not hasattr(time, "cond_proj"):
        name = type(model).__name__
        raise ValueError(f"a {name} cannot take the guidance scale as an input; a UNet2DConditionModel can, "
                         "and a FluxTransformer2DModel or Flux2Transformer2DModel with guidance_embeds")
    if time.cond_proj is None:
        first = time.linear_1.weight
        layer = nn.Linear(WIDTH, first.shape[1], bias=False, device=first.device, dtype=first.dtype)
        nn.init.zeros_(layer.weight)
        time.cond_proj = layer
        model.register_to_config(time_cond_proj_dim=WIDTH)
    time.cond_proj.requires_grad_(True)
    return model
