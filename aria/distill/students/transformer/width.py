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
    step = _step(family, config, config["attention_head_dim"])
    return max(1, math.floor(factor * int(config["num_attention_heads"]) / step + 0.5)) * step


def with_widths(family: Family, config: Config, heads: int | None, head_width: int | None) -> dict[str, Any]:
    """``config`` with so many heads, so wide each; what is None stays."""
    chosen = {"num_attention_heads": heads, "attention_head_dim": head_width}
    for name, value in chosen.items():
        if value is None:
            chosen[name] = config[name]
            continue
        checks.whole(name, value, least=1)
        if value > config[name]:
            raise ValueError(f"{name} must be at most the teacher's {config[name]}, got {value}")
    heads, head_width = chosen["num_attention_heads"], chosen["attention_head_dim"]
    assert heads is not None and head_width is not None
    if head_width % (step := family.head_unit(config)):
        axes = list(config["axes_dims_rope"])
        raise ValueError(
            f"attention_head_dim must be a multiple of {step} for rotary positions of {axes} entries, got {head_width}"
        )
    if heads % (step := _step(family, config, head_width)):
        raise ValueError(f"num_attention_heads must be a multiple of {step} for heads of {head_width}, got {heads}")
    return family.narrower(config, heads, head_width)


def _step(family: Family, config: Config, head_width: int) -> int:
    """What the number of heads must be a multiple of."""
    unit = family.unit(config)
    return unit // math.gcd(unit, head_width)
