"""Fewer blocks: which of a transformer's stay, and where the student's come from.

A preset keeps a share of the blocks, the first, the last, and others evenly between them. In a model with a second
list, of blocks with a single stream, it keeps that share of both.
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
BLOCK = re.compile(r"^(single_)?transformer_blocks\.(\d+)(?=\.|$)")


@dataclass(frozen=True)
class Kept:
    """The teacher's blocks that stay, in order."""

    family: Family
    blocks: tuple[int, ...]
    singles: tuple[int, ...] = ()
    """Those of the list ``single_transformer_blocks``."""

    def source(self, name: str) -> str:
        """The teacher's name of the student's module or tensor ``name``."""

        def of(match: re.Match[str]) -> str:
            kept = self.singles if match[1] else self.blocks
            return f"{match[1] or ''}transformer_blocks.{kept[int(match[2])]}"

        return BLOCK.sub(of, name)

    def feature_pairs(self) -> list[tuple[str, str]]:
        """Layers of teacher and student whose outputs correspond, one of each block that stays."""
        tail = f".{self.family.tap}" if self.family.tap else ""
        names = [f"transformer_blocks.{place}{tail}" for place in range(len(self.blocks))]
        names += [f"single_transformer_blocks.{place}.{self.family.single_tap}" for place in range(len(self.singles))]
        return [(self.source(name), name) for name in names]


def evenly(count: int, blocks: int) -> tuple[int, ...]:
    """``count`` of so many blocks, with the first and the last.

    >>> evenly(4, 10)
    (0, 3, 6, 9)
    """
    return tuple((2 * place * (blocks - 1) + count - 1) // (2 * (count - 1)) for place in range(count))


def read_blocks(
    family: Family,
    config: Config,
    *,
    preset: str | None,
    blocks: Sequence[int] | None,
    single_blocks: Sequence[int] | None = None,
) -> Kept:
    """The blocks that stay by ``preset`` or by number; of a list without either, all."""
    model = family.model.__name__
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r} for a transformer; there are {', '.join(PRESETS)}")
    kept = _read("blocks", config["num_layers"], preset, blocks, model)
    if family.stays is not None and (must := range(config["num_layers"])[family.stays]) not in kept:
        raise ValueError(f"blocks must hold {must}, got {list(kept)}: {family.why}")
    singles = config.get("num_single_layers", 0)
    if singles:
        return Kept(family, kept, _read("single_blocks", singles, preset, single_blocks, model))
    if single_blocks is not None:
        raise ValueError(f"single_blocks is for transformers with single_transformer_blocks; this {model} has none")
    return Kept(family, kept)


def _read(name: str, total: int, preset: str | None, given: Sequence[int] | None, model: str) -> tuple[int, ...]:
    """The numbers that stay of one list of ``total`` blocks."""
    if preset is None:
        return numbers(name, range(total) if given is None else list(given), total)
    if given is not None:
        raise ValueError(f"a preset chooses the blocks: give preset or {name}, not both")
    if total < 2:
        raise ValueError(f"{preset} needs at least 2 {name.replace('_', ' ')}, this {model} has {total}")
    return evenly(max(2, round(total * PRESETS[preset])), total)
