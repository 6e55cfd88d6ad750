"""A transformer student, first as a plan, then as a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aria import checks
from aria.distill.students.inherit import INITS, Inheritance, Init, inherit
from aria.distill.students.transformer.blocks import Kept, read_blocks
from aria.distill.students.transformer.family import Family
from aria.distill.students.transformer.slices import TransformerSlicer
from aria.distill.students.transformer.width import scaled, with_widths
from aria.distill.students.unet.plan import fresh
from aria.distill.students.unet.stages import Config


@dataclass(frozen=True)
class TransformerPlan:
    """A student of a teacher: the config that diffusers builds, and the blocks of the teacher that it keeps."""

    family: Family
    config: dict[str, Any]
    wide: dict[str, Any]
    """The same blocks at the teacher's width."""
    blocks: Kept

    @property
    def feature_pairs(self) -> list[tuple[str, str]]:
        """(teacher's module, student's module) for feature distillation."""
        return self.blocks.feature_pairs()


def plan_transformer(
    family: Family,
    teacher: Config,
    *,
    preset: str | None = None,
    blocks: Sequence[int] | None = None,
    width: float | None = None,
    num_attention_heads: int | None = None,
    attention_head_dim: int | None = None,
) -> TransformerPlan:
    """Plan the student of a teacher with the config ``teacher``: blocks first, then widths.

    ``width`` scales the number of heads; or heads, their width, or both are given.
    """
    if width is not None and not num_attention_heads is attention_head_dim is None:
        raise ValueError("give width, or num_attention_heads and attention_head_dim, not both")
    kept = read_blocks(family, teacher, preset=preset, blocks=blocks)
    wide = family.shallower(teacher, kept.blocks)
    heads = num_attention_heads if width is None else scaled(family, wide, width)
    return TransformerPlan(family, with_widths(family, wide, heads, attention_head_dim), wide, kept)


def build_transformer(
    plan: TransformerPlan, teacher: Any, *, init: Init = "slice", seed: int = 0
) -> tuple[Any, Inheritance]:
    """The planned student with the weights that ``init`` lets it inherit; the rest is drawn with ``seed``."""
    checks.one_of("init", init, INITS)
    checks.whole("seed", seed)
    narrower = plan.config != plan.wide
    slicer = TransformerSlicer.between(plan.wide, plan.config) if init == "slice" and narrower else None
    student = fresh(plan.family.model, plan.config, teacher.dtype, seed)
    return student, inherit(student, teacher.state_dict(), plan.blocks, slicer, init)
