"""Tasks on disk: a teacher, a student, prompts and images in folders, as for ``aria distill``.

The benchmark compares runs of the engine on these folders. A task defines where they are and on which prompts finished
students are evaluated.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from aria import registry
from aria.progress import Bar
from aria.tasks.base import AnyTask

SHORT: dict[str, Any] = {
    "objective": ("output",),
    "learning_rate": 1e-3,
    "adam_weight_decay": 0.0,
    "ema_decay": 0.995,
    "every": 10,
}
"""Settings of ``aria distill`` for a small student that is trained for some hundred steps."""


@dataclass(frozen=True, eq=False)
class Questions:
    """The prompts of an evaluation, and their weights in each group."""

    prompts: Sequence[str]
    groups: Mapping[str, Tensor]
    """(N,) float64 shares of the prompts in each group, summing to one."""


class OnDisk(AnyTask):
    """A task on disk: a frozen dataclass of settings. What it needs is made once, in a folder that it is given."""

    exact = False

    def check(self) -> None:
        """Refuse what :meth:`prepare` could not make, before anything is computed; by default nothing."""

    @abstractmethod
    def prepare(self, place: Path, bar: Bar, device: str) -> None:
        """Make what is missing in ``place``, computing on ``device``; continue where a killed call stopped."""

    @abstractmethod
    def settings(self, place: Path) -> dict[str, Any]:
        """The settings of ``aria distill`` for every run: at least ``pretrained_model_name_or_path``, ``student`` and
        ``prompts``."""

    @abstractmethod
    def questions(self, place: Path) -> Questions:
        """The prompts on which every student is evaluated, and their groups."""

    def identity(self) -> str:
        """Everything that distinguishes this task from others, as text: runs are kept under a hash of it. By default
        the settings; a task that reads files should add a hash of their contents."""
        return registry.spec(self)

    def regions(self) -> str:
        """The partitioner of arms that do not set one."""
        return "auto"

    def marks(self, place: Path, images: Tensor) -> dict[str, Tensor]:
        """Further metrics, (N,) each, of the (N, 3, H, W) images in [0, 1] that a model made of the prompts of
        :meth:`questions`, in their order; NaN where a metric is undefined. By default there are none."""
        return {}

