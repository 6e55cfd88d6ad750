"""AdamW, its learning rate over time, and their state as tensors and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from diffusers.optimization import get_scheduler
from torch import Tensor, nn

from aria.distill.engine import sharding
from aria.distill.engine.state import check_alike
from aria.distill.settings.config import AdamW


def adamw(settings: AdamW, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
    """The fused AdamW: one kernel, and able to skip a step without reading a value from the device."""
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
    """The optimiser and its learning rate as one stateful object. The settings stay those it was made with."""

    def __init__(self, optimizer: torch.optim.Optimizer, learning_rate: Any) -> None:
        self.optimizer, self.learning_rate = optimizer, learning_rate

    def state_dict(self) -> dict[str, Any]:
        return {**state_tensors(self.optimizer), "learning_rate": self.learning_rate.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_alike("learning_rate", state["learning_rate"], self.learning_rate.state_dict())
        load_state_tensors(self.optimizer, {name: x for name, x in state.items() if isinstance(x, Tensor)})
        self.learning_rate.load_state_dict(state["learning_rate"])
        for group, rate in zip(self.optimizer.param_groups, self.learning_rate.get_last_lr(), strict=True):
            group["lr"] = rate


def state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's memory as ``parameter.name`` tensors, in the order of the parameters.

    What is divided among ranks is put together; every rank must ask.
    """
    return {
        f"{place}.{name}": sharding.whole(value)
        for place, memory in optimizer.state_dict()["state"].items()
        for name, value in memory.items()
    }


def load_state_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of :func:`state_tensors`; the settings stay those the optimiser was made with."""
    parameters = [value for group in optimizer.param_groups for value in group["params"]]
    memory: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        place, name = key.split(".", 1)
        memory.setdefault(int(place), {})[name] = sharding.divided_as(value, parameters[int(place)])
    optimizer.load_state_dict({"state": memory, "param_groups": optimizer.state_dict()["param_groups"]})
