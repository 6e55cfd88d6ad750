"""Fewer blocks: which of a transformer's stay, and where the student's come from.

A preset keeps a share of the blocks, the first, the last, and others evenly between them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from aria.distill.students.config import Config, numbers
from aria.distill.students.transformer.family import Family

PRESETS = {"half": Fraction(1, 2), "third": Fraction(1, 3), "quarter": Fraction(1, 4)}
"""The share of the blocks that stays."""
BLOCK = re.compile(r"^transformer_blocks\.(\d+)(?=\.|$)")


@dataclass(frozen=True)
class Kept:
    """The teacher's blocks that stay, in order."""

    family: Family
    blocks: tuple[int, ...]

    def source(self, name: str) -> str:
        """The teacher's name of the student's module or tensor ``name``."""
        return BLOCK.sub(lambda match: f"transformer_blocks.{self.blocks[int(match[1])]}", name)

    def feature_pairs(self) -> list[tuple[str, str]]:
        """Layers of teacher and student whose outputs correspond, one of each block that stays."""
        tail = f".{self.family.tap}" if self.family.tap else ""
        names = [f"transformer_blocks.{place}{tail}" for place in range(len(self.blocks))]
        return [(self.source(name), name) for name in names]


def evenly(count: int, blocks: int) -> tuple[int, ...]:
    """``count`` of so many blocks, with the first and the last.

    >>> evenly(4, 10)
    (0, 3, 6, 9)
    """
    return tuple((2 * place * (blocks - 1) + count - 1) // (2 * (count - 1)) for place in range(count))


def read_blocks(family: Family, config: Config, *, preset: str | None, blocks: Sequence[int] | None) -> Kept:
    """The blocks that stay by ``preset`` or by number; without either, all."""
    total = config["num_layers"]
    if preset is not None and blocks is not None:
        raise ValueError("a preset chooses the blocks: give preset or blocks, not both")
    if preset is not None:
        if preset not in PRESETS:
            raise ValueError(f"there is no preset {preset!r} for a transformer; there are {', '.join(PRESETS)}")
        if total < 2:
            raise ValueError(f"{preset} needs at least 2 blocks, this {family.model.__name__} has {total}")
        return Kept(family, evenly(max(2, round(total * PRESETS[preset])), total))
    kept = numbers("blocks", range(total) if blocks is None else list(blocks), total)
    if family.stays is not None and range(total)[family.stays] not in kept:
        must = range(total)[family.stays]
        raise ValueError(f"blocks must hold {must}, got {list(kept)}: {family.why}")
    return Kept(family, kept)
