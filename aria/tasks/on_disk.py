"""Tasks on disk: a teacher, a student, prompts and images in folders, as users of the engine have them.

The runs that are compared are runs of the engine on these folders; a task says where they are and what a finished
student is asked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from aria.progress import Bar


@dataclass(frozen=True, eq=False)
class Questions:
    """The prompts of an examination, and how much each counts in which group."""

    prompts: Sequence[str]
    groups: Mapping[str, Tensor]
    """(N,) float64 shares of the prompts in each group, summing to one."""


class OnDisk(ABC):
    """A frozen dataclass of knobs. What it needs on disk is made once, in a folder that it is given."""

    @abstractmethod
    def prepare(self, place: Path, bar: Bar, device: str) -> None:
        """Make what is missing in ``place``, computing on ``device``; a killed call is continued by the next."""

    @abstractmethod
    def settings(self, place: Path) -> dict[str, Any]:
        """The engine's settings of every run, by the names that `aria distill` has for them: at least teacher, student,
        prompts and images."""

    @abstractmethod
    def questions(self, place: Path) -> Questions:
        """What every student is asked."""

    @abstractmethod
    def identity(self) -> str:
        """What tells this task from others: runs of another identity are not taken for runs of this one."""

    def regions(self) -> str:
        """The partitioner of arms that do not name one."""
        return "auto"

    def marks(self, place: Path, images: Tensor) -> dict[str, Tensor]:
        """(N,) further metrics of the (N, 3, H, W) images in [0, 1] that a model made of the questions, in order; NaN
        where a question has no answer. None unless a task says otherwise."""
        return {}

