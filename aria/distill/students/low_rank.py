r"""Low-rank adapters: a student with the teacher's shape of which only a few parameters train.

Each chosen layer :math:`y = W x` becomes :math:`y = W x + \frac{\alpha}{r} B A x` with :math:`A \in \mathbb{R}^{r
\times n}` and :math:`B \in \mathbb{R}^{m \times r}`, where :math:`B = 0` at the start, so that the model is what it
was; only :math:`A` and :math:`B` train. The adapters are those of the library ``peft``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from aria import checks

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""The projections of every attention."""


def add_low_rank(
    model: nn.Module, rank: int, targets: Sequence[str] = TARGETS, *, alpha: int | None = None, dropout: float = 0.0
) -> nn.Module:
    """Put adapters of ``rank`` beside the layers whose names end with one of ``targets``; the rest is frozen.

    In place; ``alpha`` is the rank unless given. :func:`merge` undoes it.
    """
    from peft import LoraConfig, inject_adapter_in_model

    checks.whole("rank", rank, least=1)
    if adapters(model):
        raise ValueError("the model has adapters already; merge them first")
    named = {name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in named):
            raise ValueError(f"targets: no linear layer or convolution of {type(model).__name__} is called {target!r}")
    settings = LoraConfig(
        r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=list(targets), lora_dropout=dropout
    )
    inject_adapter_in_model(settings, model)  # freezes what is not an adapter
    return model


def merge(model: nn.Module) -> nn.Module:
    """Add every adapter to the layer it stands beside, in place: the plain model, saved with a plain config."""
    found = adapters(model)
    if not found:
        raise ValueError(f"{type(model).__name__} has no adapters to merge")
    for name, layer in found.items():
        layer.merge(safe_merge=True)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    del model.peft_config
    return model.requires_grad_(True)


def adapters(model: nn.Module) -> dict[str, Any]:
    """The layers of ``model`` that have an adapter, by name."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
