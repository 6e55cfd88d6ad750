"""A student, first as a plan (a plain config and where its tensors come from), then as a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch

from aria import checks
from aria.distill.students.config import Config
from aria.distill.students.inherit import INITS, Inheritance, Init, Slicer, Sources, inherit


class Blocks(Sources, Protocol):
    """Which blocks of the teacher stay, and whose outputs correspond."""

    def feature_pairs(self) -> list[tuple[str, str]]:
        """(teacher's module, student's module) for feature distillation."""
        ...


B = TypeVar("B", bound=Blocks)


@dataclass(frozen=True)
class Plan(Generic[B]):
    """A student of a teacher: the config that diffusers builds, and the blocks of the teacher that it keeps."""

    model: type[Any]
    """The class of both models."""
    config: dict[str, Any]
    wide: dict[str, Any]
    """The same blocks at the teacher's width."""
    blocks: B
    slicer: Callable[[Config, Config], Slicer]
    """Makes what cuts the tensors of a wide config to those of a narrow one."""

    @property
    def feature_pairs(self) -> list[tuple[str, str]]:
        """(teacher's module, student's module) for feature distillation."""
        return self.blocks.feature_pairs()


def build_student(plan: Plan[B], teacher: Any, *, init: Init = "slice", seed: int = 0) -> tuple[Any, Inheritance]:
    """The planned student with the weights that ``init`` lets it inherit; the rest is drawn with ``seed``."""
    checks.one_of("init", init, INITS)
    checks.whole("seed", seed)
    narrower = plan.config != plan.wide
    slicer = plan.slicer(plan.wide, plan.config) if init == "slice" and narrower else None
    student = _fresh(plan, teacher.dtype, seed)
    return student, inherit(student, teacher.state_dict(), plan.blocks, slicer, init)


def _fresh(plan: Plan[B], dtype: torch.dtype, seed: int) -> Any:
    """The planned model with random weights that depend on ``seed`` alone; other random numbers are left as they were.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # no other device draws numbers here
        model = plan.model.from_config(dict(plan.config))
    return model if model.dtype == dtype else model.to(dtype)
