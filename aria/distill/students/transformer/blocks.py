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


@dataclass(frozen=True)
class Kept:
    """The teacher's blocks that stay, in order."""

    family: Family
    blocks: tuple[int, ...]
    singles: tuple[int, ...] = ()
    """Those of the list of blocks with one stream."""

    def source(self, name: str) -> str:
        """The teacher's name of the student's module or tensor ``name``."""
        lists = {self.family.blocks: self.blocks, self.family.singles: self.singles}
        found = re.match(r"(\w+)\.(\d+)(?=\.|$)", name)
        if found is None or found[1] not in lists:
            return name
        return f"{found[1]}.{lists[found[1]][int(found[2])]}{name[found.end() :]}"

    def feature_pairs(self) -> list[tuple[str, str]]:
        """Layers of teacher and student whose outputs correspond, one of each block that stays."""
        family = self.family
        lists = ((family.blocks, self.blocks, family.tap), (family.singles, self.singles, family.single_tap))
        names = [f"{blocks}.{place}.{tap}".rstrip(".") for blocks, kept, tap in lists for place in range(len(kept))]
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
    kept = _read("blocks", config[family.layers], preset, blocks, model)
    if family.stays is not None and (must := range(config[family.layers])[family.stays]) not in kept:
        raise ValueError(f"blocks must hold {must}, got {list(kept)}: {family.why}")
    singles = config.get(family.single_layers, 0)
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
