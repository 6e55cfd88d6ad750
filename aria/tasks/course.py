"""A short, resumable training loop for losses that depend only on random numbers; it ends with averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from aria import checks, files
from aria.distill.engine.moving_average import MovingAverage
from aria.distill.engine.optimiser import adamw, load_state_tensors, state_tensors
from aria.distill.settings.config import AdamW
from aria.progress import Report
from aria.samplers import checkpoint
from aria.samplers.draws import step_seed


@dataclass(frozen=True)
class Course:
    """Length, batch size and learning rate of a training."""

    steps: int
    batch_size: int
    learning_rate: float
    ema_decay: float = 0.99

    def __post_init__(self) -> None:
        checks.whole("steps", self.steps, least=1)
        checks.whole("batch_size", self.batch_size, least=1)
        checks.positive("learning_rate", self.learning_rate)
        checks.closed_unit("ema_decay", self.ema_decay)

    def rate(self, step: int) -> float:
        """The learning rate after a short warm-up, then along half a cosine down to 0.

        >>> course = Course(steps=100, batch_size=1, learning_rate=1.0)
        >>> course.rate(0), course.rate(50), round(course.rate(99), 4)
        (0.2, 0.5, 0.0002)
        """
        warm = min(1.0, (step + 1) / max(1, min(50, self.steps // 20)))
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))


def fit(
    model: nn.Module,
    loss: Callable[[torch.Generator], Tensor],
    course: Course,
    *,
    seed: int,
    progress: Report,
    saved: Path | None = None,
    every: int = 200,
    half: bool = False,
) -> None:
    """Minimise ``loss`` and leave the moving average of the weights in ``model``.

    Each step's random numbers are a function of (seed, step), so a run resumed from ``saved`` equals one that was not
    interrupted. That file is written every ``every`` steps and at the end. ``half`` computes in bfloat16.
    """
    device = next(model.parameters()).device
    rule = AdamW(learning_rate=course.learning_rate, adam_weight_decay=0.0)
    optimizer, average = adamw(rule, model.parameters()), MovingAverage(model, course.ema_decay)
    first = _resumed(saved, model, optimizer, average) if saved is not None and saved.is_file() else 0
    generator = torch.Generator(device)
    model.train()
    for step in range(first, course.steps):
        for group in optimizer.param_groups:
            group["lr"] = course.rate(step)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            value = loss(generator.manual_seed(step_seed(seed, step)))
        torch.autograd.backward(value)
        nn.utils.clip_grad_norm_(model.parameters(), rule.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        average.update(model)
        progress(step + 1, course.steps)
        if saved is not None and ((step + 1) % every == 0 or step + 1 == course.steps):
            _save(saved, step + 1, model, optimizer, average)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(average.weights[name])
    model.eval()


def _save(path: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, average: MovingAverage) -> None:
    tensors: dict[str, Tensor] = {f"model.{name}": value for name, value in model.named_parameters()}
    tensors |= {f"average.{name}": value for name, value in average.weights.items()}
    tensors |= {f"optimizer.{name}": value for name, value in state_tensors(optimizer).items()}
    with files.replacing(path) as part:
        files.write_tensors(part, tensors | {"step": torch.tensor(step)})


def _resumed(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: MovingAverage) -> int:
    """Load a saved training; returns the number of steps it had done."""
    state = load_file(path)
    average.steps = int(state["step"])
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(state[f"model.{name}"])
            average.weights[name].copy_(state[f"average.{name}"])
    load_state_tensors(optimizer, checkpoint.under("optimizer.", state))
    return average.steps
