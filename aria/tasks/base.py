"""What a benchmark task is made of: a world with a teacher, a pool, images, students and held-out groups."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from aria.distill.engine.batch import Encodings, Images
from aria.distill.teachers.teacher import Teacher
from aria.pool import Pool

GROUPS = ("uniform", "pool", "head", "tail", "unseen", "unseen-tail")
"""The groups of conditions that every task reports: all alike, as the pool has them, its most frequent and its rarest
ones, those without images, and those both rare and without images."""


@dataclass(frozen=True, eq=False)
class World:
    """One draw of a task: everything the arms of one seed have in common."""

    teacher: Teacher
    """Whom to agree with."""
    pool: Pool
    """The conditions, with embeddings to divide them by and their shares as weights."""
    conditions: Encodings
    """The same conditions as the models are told them."""
    images: Images
    """Latents of some conditions."""
    groups: Mapping[str, Tensor]
    """(N,) shares of the conditions in each group, summing to one."""

    @property
    def device(self) -> torch.device:
        """Where the teacher is, and students beside it compute."""
        return self.teacher.schedule.alpha.device

    def to(self, device: torch.device | str) -> World:
        """The same world with its teacher on ``device``. What batches are drawn from stays where it is."""
        model, schedule = copy.deepcopy(self.teacher.model).to(device), self.teacher.schedule.to(device)
        return replace(self, teacher=replace(self.teacher, model=model, schedule=schedule))


class Task(ABC):
    """A frozen dataclass of knobs; worlds and students are functions of a seed, made on the CPU."""

    @abstractmethod
    def world(self, seed: int) -> World:
        """The world of a seed."""

    @abstractmethod
    def student(self, seed: int) -> nn.Module:
        """A fresh student; the same seed gives the same weights."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """Length of a run unless the user says otherwise."""


def held_out_groups(share: Tensor, head: Tensor, tail: Tensor, unseen: Tensor) -> dict[str, Tensor]:
    """(N,) shares of each group from the pool's shares and three (N,) masks.

    >>> groups = held_out_groups(torch.tensor([0.75, 0.25]), *(torch.tensor(m) for m in ([1, 0], [0, 1], [0, 1])))
    >>> groups["head"].tolist(), groups["unseen-tail"].tolist()
    ([1.0, 0.0], [0.0, 1.0])
    """
    ones = torch.ones_like(share)
    masks = {"uniform": ones, "pool": share, "head": head, "tail": tail, "unseen": unseen, "unseen-tail": unseen * tail}
    return {name: mask.double() / mask.double().sum() for name, mask in masks.items()}


def some_unseen(what: str, unseen: float, count: int) -> None:
    """Refuse a share that leaves none of ``count`` without images, or none with."""
    if not 0 < round(unseen * count) < count:
        raise ValueError(f"unseen must leave some of the {count} {what} with and some without images, got {unseen!r}")
