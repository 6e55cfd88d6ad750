"""Planning a transformer student: which blocks stay, then how wide they are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from aria.distill.students.config import Config
from aria.distill.students.plan import Plan
from aria.distill.students.transformer.blocks import Kept, read_blocks
from aria.distill.students.transformer.family import Family
from aria.distill.students.transformer.slices import TransformerSlicer
from aria.distill.students.transformer.width import scaled, with_widths


def plan_transformer(
    family: Family,
    teacher: Config,
    *,
    preset: str | None = None,
    blocks: Sequence[int] | None = None,
    single_blocks: Sequence[int] | None = None,
    width: float | None = None,
    num_attention_heads: int | None = None,
    attention_head_dim: int | None = None,
) -> Plan[Kept]:
    """Plan the student of a teacher with the config ``teacher``: blocks first, then widths.

    ``width`` scales the number of heads; or heads, their width, or both are given.
    """
    if width is not None and not num_attention_heads is attention_head_dim is None:
        raise ValueError("give width, or num_attention_heads and attention_head_dim, not both")
    kept = read_blocks(family, teacher, preset=preset, blocks=blocks, single_blocks=single_blocks)
    wide = family.shallower(teacher, kept.blocks, kept.singles)
    heads = num_attention_heads if width is None else scaled(family, wide, width)
    config = with_widths(family, wide, heads, attention_head_dim)
    return Plan(family.model, config, wide, kept, partial(TransformerSlicer.between, family))
