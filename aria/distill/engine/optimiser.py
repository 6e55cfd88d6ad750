"""AdamW, its learning rate over time, and their state as tensors and JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.optimization import SchedulerType, get_scheduler
from torch import Tensor, nn

from aria import checks
from aria.distill.engine import sharding
from aria.distill.settings.setting import said

SCHEDULES = tuple(kind.value for kind in SchedulerType if kind.value != "piecewise_constant")


@dataclass(frozen=True)
class AdamW:
    """Settings of the optimiser, by the names diffusers' training scripts use."""

    learning_rate: float = said(5e-5, "Its height after the warm-up.")
    adam_beta1: float = said(0.9, "Memory of the gradients' mean.")
    adam_beta2: float = said(0.999, "Memory of their squares.")
    adam_weight_decay: float = said(1e-2, "Decoupled weight decay.")
    adam_epsilon: float = said(1e-8, "Added to the denominator.")
    max_grad_norm: float = said(1.0, "Gradients are scaled down to this norm.")
    lr_scheduler: str = said("constant", "Shape of the learning rate over the run.")
    lr_warmup_steps: int = said(0, "Steps until the learning rate has reached its height.")

    def __post_init__(self) -> None:
        checks.positive("learning_rate", self.learning_rate)
        for name in ("adam_beta1", "adam_beta2"):
            if getattr(self, name) != 0:
                checks.open_unit(name, getattr(self, name))
        checks.non_negative("adam_weight_decay", self.adam_weight_decay)
        checks.positive("adam_epsilon", self.adam_epsilon)
        checks.positive("max_grad_norm", self.max_grad_norm)
        checks.one_of("lr_scheduler", self.lr_scheduler, SCHEDULES)
        checks.whole("lr_warmup_steps", self.lr_warmup_steps, least=0)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
        """The fused AdamW: one kernel, and able to skip a step without looking at the device."""
        return torch.optim.AdamW(
            parameters,
            lr=self.learning_rate,
            betas=(self.adam_beta1, self.adam_beta2),
            eps=self.adam_epsilon,
            weight_decay=self.adam_weight_decay,
            fused=True,
        )

    def schedule(self, optimizer: torch.optim.Optimizer, steps: int) -> Any:
        """The learning rate as a function of the step."""
        return get_scheduler(
            self.lr_scheduler, optimizer, num_warmup_steps=self.lr_warmup_steps, num_training_steps=steps
        )


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
