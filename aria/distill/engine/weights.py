"""Saving and loading the student's weights or their moving average."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from diffusers import ModelMixin
from torch import Tensor, nn

from aria.distill.engine import sharding
from aria.distill.engine.moving_average import MovingAverage
from aria.distill.engine.state import State
from aria.distill.students.factorise import is_factorised, unfactorise
from aria.distill.students.low_rank import adapters, merge

FILE = "diffusion_pytorch_model.safetensors"
"""diffusers' name for a model's weights."""


class Weights:
    """The student's weights, or their moving average, saved as a folder that ``from_pretrained`` opens. For a student
    with low-rank adapters or factorised layers that folder holds the merged model, and the weights that train are in a
    file beside it.
    """

    def __init__(
        self, name: str, student: nn.Module, whole: Callable[[], nn.Module | None], average: MovingAverage | None = None
    ) -> None:
        """``whole`` gathers a sharded student on the first rank; it is collective, every rank calls it."""
        self.name, self.student, self._whole, self.average = name, student, whole, average
        self.partly = is_reshaped(student)
        self.file = f"{name}.adapters.safetensors" if self.partly else f"{name}/{FILE}"

    def _in_place(self) -> AbstractContextManager[None]:
        return nullcontext() if self.average is None else self.average.in_place_of(self.student)

    def state_dict(self) -> State:
        with self._in_place():
            model = self._whole()
            tensors = {} if model is None else trained(model) if self.partly else model.state_dict()
            copies = {name: value.detach().cpu().clone() for name, value in tensors.items()}
        return copies if self.average is None else {**copies, "steps": self.average.steps}

    def load_state_dict(self, state: State) -> None:
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        if self.partly and tensors.keys() != trained(self.student).keys():
            raise KeyError(f"other adapters: {sorted(tensors.keys() ^ trained(self.student).keys())[0]}")
        if self.average is None:
            sharding.load_whole(self.student, tensors, strict=not self.partly)
        else:
            self.average.load(self.student, tensors, state["steps"])

    def export(self, folder: Path | None) -> None:
        if not self.partly:
            if folder is not None and isinstance(self.student, ModelMixin):
                self.student.save_config(folder / self.name)
            return
        with self._in_place():
            model = self._whole()
            if folder is not None and model is not None:
                plain(model).save_pretrained(folder / self.name, max_shard_size="1TB")


def is_reshaped(model: nn.Module) -> bool:
    """Whether the model trains in different layers than it is delivered with: in adapters or factors."""
    return bool(adapters(model)) or is_factorised(model)


def plain(model: Any) -> Any:
    """The model itself, or a copy whose low-rank adapters or factors are merged into plain layers."""
    if adapters(model):
        return merge(copy.deepcopy(model))
    return unfactorise(copy.deepcopy(model)) if is_factorised(model) else model


def trained(model: nn.Module) -> dict[str, Tensor]:
    """The weights that train."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}
