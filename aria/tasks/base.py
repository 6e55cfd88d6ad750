"""What a benchmark task is made of: a world with a teacher, a pool, images, students and held-out groups."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from aria.checks import InvalidSetting
from aria.distill.engine.batch import Encodings, Images
from aria.distill.teachers.teacher import Teacher
from aria.pool import Pool

GROUPS = ("uniform", "pool", "head", "tail", "unseen", "unseen-tail")
"""The groups of conditions that every task in memory reports: all conditions with equal weight; weighted as in the
pool; the most frequent ones; the rarest ones; those without images; and rare ones without images."""


@dataclass(frozen=True, eq=False)
class World:
    """One random instance of a task: everything that the arms of one seed share."""

    teacher: Teacher
    """The model to imitate."""
    pool: Pool
    """The conditions, with embeddings for partitioners and their frequencies as weights."""
    conditions: Encodings
    """The same conditions, encoded as the models' inputs."""
    images: Images
    """Latents of some conditions."""
    groups: Mapping[str, Tensor]
    """(N,) shares of the conditions in each group, summing to one."""

    @property
    def device(self) -> torch.device:
        """The teacher's device, on which students compute as well."""
        return self.teacher.schedule.alpha.device

    def to(self, device: torch.device | str) -> World:
        """The same world with its teacher on ``device``. Conditions and images, from which batches are drawn, stay."""
        model, schedule = copy.deepcopy(self.teacher.model).to(device), self.teacher.schedule.to(device)
        return replace(self, teacher=replace(self.teacher, model=model, schedule=schedule))


class AnyTask(ABC):
    """What ``aria bench --task`` accepts: a :class:`Task` in memory or an :class:`aria.tasks.OnDisk`."""

    exact: ClassVar[bool]
    """Whether discrepancies can be computed exactly, which the arm ``oracle`` needs."""


class Task(AnyTask):
    """A task in memory: a frozen dataclass of settings. Worlds and students are made on the CPU from a seed."""

    exact = True

    @abstractmethod
    def world(self, seed: int) -> World:
        """The world of this seed."""

    @abstractmethod
    def student(self, seed: int) -> nn.Module:
        """A fresh student; the same seed gives the same weights."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """Default number of training steps of a run."""


def held_out_groups(share: Tensor, head: Tensor, tail: Tensor, unseen: Tensor) -> dict[str, Tensor]:
    """(N,) shares of each group from the pool's shares and three (N,) masks.

    >>> groups = held_out_groups(torch.tensor([0.75, 0.25]), *(torch.tensor(m) for m in ([1, 0], [0, 1], [0, 1])))
    >>> groups["head"].tolist(), groups["unseen-tail"].tolist()
    ([1.0, 0.0], [0.0, 1.0])
    """
    ones = torch.ones_like(share)
    masks = {"uniform": ones, "pool": share, "head": head, "tail": tail, "unseen": unseen, "unseen-tail": unseen * tail}
    return {name: mask.double() / mask.double().sum() for name, mask in masks.items()}


def check_unseen(what: str, unseen: float, count: int) -> None:
    """Refuse a share by which all ``count`` have images, or none has."""
    if not 0 < round(unseen * count) < count:
        message = f"unseen must leave some of the {count} {what} with and some without images, got {unseen!r}"
        raise InvalidSetting("unseen", "range", message)
