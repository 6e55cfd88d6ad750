"""Narrower blocks: how many heads a transformer has, and how wide they are."""

from __future__ import annotations

import math
from typing import Any

from aria import checks
from aria.distill.students.config import Config
from aria.distill.students.transformer.family import Family


def scaled(family: Family, config: Config, factor: float) -> int:
    r"""The number of heads nearest to ``factor`` times the config's, a tie rounded up.

    :math:`m\lfloor fH/m + 1/2\rfloor`, with :math:`m` the fewest heads that are together as wide as the family can be.
    """
    checks.half_open_unit("width", factor)
    heads, head_width = family.heads(config)
    step = family.heads_unit(config, head_width)
    return max(1, math.floor(factor * heads / step + 0.5)) * step


def with_widths(family: Family, config: Config, heads: int | None, head_width: int | None) -> dict[str, Any]:
    """``config`` with so many heads, so wide each; what is None stays."""
    all_heads, whole = family.heads(config)
    for name, value, most in (("num_attention_heads", heads, all_heads), ("attention_head_dim", head_width, whole)):
        if value is None:
            continue
        checks.whole(name, value, least=1)
        if value > most:
            raise ValueError(f"{name} must be at most the teacher's {most}, got {value}")
    heads, head_width = all_heads if heads is None else heads, whole if head_width is None else head_width
    if family.whole and (heads, head_width) != (all_heads, whole):
        raise ValueError(f"blocks of a {family.model.__name__} cannot be narrower: {family.whole}")
    if head_width % (step := family.head_unit(config)):
        axes = list(family.axes_of(config))
        raise ValueError(
            f"attention_head_dim must be a multiple of {step} for rotary positions of {axes} entries, got {head_width}"
        )
    if heads % (step := family.heads_unit(config, head_width)):
        raise ValueError(f"num_attention_heads must be a multiple of {step} for heads of {head_width}, got {heads}")
    return family.narrower(config, heads, head_width)
