"""The moving average of the student's weights, used for validation and in the final pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from aria import checks
from aria.distill.engine import sharding


class MovingAverage:
    r"""Weights :math:`\bar\theta \leftarrow d_t\bar\theta + (1-d_t)\theta` in float32, with
    :math:`d_t = \min(d, (1+t)/(10+t))` so that the initial weights are soon forgotten.

    If the model is sharded, each rank averages its own shard.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> average = MovingAverage(layer, decay=0.5)
    >>> _ = layer.weight.data.fill_(2.0); average.weights["weight"].fill_(0.0).item()
    0.0
    >>> average.update(layer); round(average.weights["weight"].item(), 4)
    1.8
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999) -> None:
        checks.closed_unit("decay", decay)
        self.decay = decay
        self.steps = 0
        self.weights = {name: value.float().clone() for name, value in _trained(model)}

    def update(self, model: nn.Module) -> None:
        """Move towards the model's weights, all tensors in one kernel launch where possible."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        now = [value.float() for _, value in _trained(model)]
        torch._foreach_lerp_(list(self.weights.values()), now, 1 - decay)
        self.steps += 1

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Put the averaged weights into the model, and its own back on exit."""
        own = {name: value.clone() for name, value in _trained(model)}
        self._into(model, self.weights)
        try:
            yield
        finally:
            self._into(model, own)

    def load(self, model: nn.Module, saved: Mapping[str, Tensor], steps: int) -> None:
        """Continue from averages of whole weights, saved after ``steps`` updates."""
        checks.whole("steps of the moving average", steps, least=0)
        self.steps = steps
        for name, value in model.named_parameters():
            if value.requires_grad:
                self.weights[name].copy_(sharding.local(sharding.shard_like(saved[name], value)))

    def _into(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        for name, value in _trained(model):
            value.copy_(weights[name])


def _trained(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """This rank's shard of the weights that train."""
    trained = ((name, value) for name, value in model.named_parameters() if value.requires_grad)
    return ((name, sharding.local(value.detach())) for name, value in trained)
