"""AdamW, its learning rate schedule, and saving their state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from diffusers.optimization import get_scheduler
from torch import Tensor, nn

from aria.distill.engine import sharding
from aria.distill.engine.state import check_structure
from aria.distill.settings.config import AdamW


def adamw(settings: AdamW, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
    """Fused AdamW: one kernel, and it can skip a step without synchronising with the device."""
    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        weight_decay=settings.adam_weight_decay,
        fused=True,
    )


def learning_rate(settings: AdamW, optimizer: torch.optim.Optimizer, steps: int) -> Any:
    """The learning rate schedule of a run of ``steps`` steps."""
    return get_scheduler(
        settings.lr_scheduler, optimizer, num_warmup_steps=settings.lr_warmup_steps, num_training_steps=steps
    )


class Optimiser:
    """The optimiser and its learning rate schedule as one stateful object. Loading does not change its settings."""

    def __init__(self, optimizer: torch.optim.Optimizer, learning_rate: Any) -> None:
        self.optimizer, self.learning_rate = optimizer, learning_rate

    def state_dict(self) -> dict[str, Any]:
        return {**state_tensors(self.optimizer), "learning_rate": self.learning_rate.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_structure("learning_rate", state["learning_rate"], self.learning_rate.state_dict())
        load_state_tensors(self.optimizer, {name: x for name, x in state.items() if isinstance(x, Tensor)})
        self.learning_rate.load_state_dict(state["learning_rate"])
        for group, rate in zip(self.optimizer.param_groups, self.learning_rate.get_last_lr(), strict=True):
            group["lr"] = rate


def state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as ``parameter.name`` tensors, in the order of the parameters.

    Sharded tensors are gathered. Collective: every rank calls it.
    """
    return {
        f"{index}.{name}": sharding.whole(value)
        for index, moments in optimizer.state_dict()["state"].items()
        for name, value in moments.items()
    }


def load_state_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of :func:`state_tensors`; the optimiser's settings do not change."""
    parameters = [value for group in optimizer.param_groups for value in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = sharding.shard_like(value, parameters[int(index)])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
