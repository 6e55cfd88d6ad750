r"""How large a model is: parameters, and multiply-adds of one forward pass.

Counted without weights, by a forward pass on the meta device, for one sample of :math:`S \times S` latents, or of a
video of the published size, and :math:`T` tokens of context:

.. math::
    \text{linear: } |y| \, C_{in}, \qquad
    \text{convolution: } |y| \, \frac{C_{in}}{g} k_h k_w, \qquad
    \text{attention: } 2 B N_q N_k D, \qquad
    \text{linear attention: } 2 B N_q (D_h + 1) D

where :math:`|y|` is the number of entries in the output, :math:`g` the number of groups, :math:`N_q` and :math:`N_k`
the number of queries and keys, :math:`D` the width of all heads together and :math:`D_h` that of one. The 2 is for
:math:`QK^\top` and for the weighted sum of values; in linear attention for :math:`VK^\top`, which has one more row, the
sum of weights, and for its product with :math:`Q`. Norms, activations, softmax and additions are not counted. Papers
often leave the attention's products out as well: ``attention=False`` counts linear layers and convolutions only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, SanaLinearAttnProcessor2_0
from diffusers.models.transformers.transformer_flux import FluxAttention
from diffusers.models.transformers.transformer_flux2 import Flux2Attention, Flux2ParallelSelfAttention
from diffusers.models.transformers.transformer_ltx import LTXAttention
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import Tensor, nn

from aria.distill.students.config import Config

ATTENTIONS = (Attention, FluxAttention, Flux2Attention, Flux2ParallelSelfAttention, LTXAttention, WanAttention)


@dataclass(frozen=True)
class Size:
    """Parameters and multiply-adds."""

    parameters: int
    macs: int


def measured(model: type[Any], config: Config, inputs: Callable[[], dict[str, Any]], *, attention: bool) -> Size:
    """The size of the model that ``config`` describes, built without weights and called once with ``inputs()``."""
    with torch.device("meta"):
        built, arguments = model.from_config(dict(config)).eval(), inputs()
    for module in built.modules():
        if isinstance(module, Attention):
            module.register_forward_pre_hook(_without_values, with_kwargs=True)
    parameters = sum(parameter.numel() for parameter in built.parameters())
    return Size(parameters, count_macs(built, attention=attention, **arguments))


def count_macs(model: nn.Module, *, attention: bool = True, **inputs: Any) -> int:
    """Multiply-adds of ``model(**inputs)`` in its linear layers, convolutions and, with ``attention``, attentions."""
    total = 0

    def layer(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d)
        total += output.numel() * module.weight[0].numel()  # weight: (C_out, C_in / g, k_h, k_w)

    def products(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal total
        assert isinstance(module, ATTENTIONS)
        queries = args[0] if args else kwargs["hidden_states"]
        context = args[1] if len(args) > 1 else kwargs.get("encoder_hidden_states")
        positions = _positions(queries)
        keys = positions if context is None else _positions(context)
        added = getattr(module, "added_kv_proj_dim", None) is not None
        beside = added and not getattr(module, "only_cross_attention", False)
        if context is not None and beside:
            keys += positions  # this attention reads the context beside the image, not in its place
            if getattr(module, "add_q_proj", None) is not None:
                positions = keys  # and has queries for both
        if isinstance(module.processor, SanaLinearAttnProcessor2_0):
            keys = module.inner_dim // module.heads + 1  # it sums over positions once, for all queries
        total += 2 * queries.shape[0] * positions * keys * module.inner_dim

    hooks = []
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
            hooks.append(module.register_forward_hook(layer))
        elif attention and isinstance(module, ATTENTIONS):
            hooks.append(module.register_forward_pre_hook(products, with_kwargs=True))
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def _without_values(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """An attention's arguments on the meta device; a mask is not, where the model reads how long texts are."""
    return args, {name: value.to("meta") if isinstance(value, Tensor) else value for name, value in kwargs.items()}


def _positions(states: Tensor) -> int:
    """Positions in (batch, positions, channels) or (batch, channels, …)."""
    return states.shape[1] if states.ndim == 3 else states[0, 0].numel()
