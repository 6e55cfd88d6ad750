"""Which captions the pool has, which are withheld from the student's pictures, and the groups of the evaluation.

A *cell* is a style and one of Unicode's subcategories, such as "noto, animal-bird". Captions are withheld in two ways:
three tenths of the concepts in one style each, if they have a picture there, and a fifth of the cells as a whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aria import checks
from aria.checks import InvalidSetting
from aria.tasks.emoji.pictures import STYLES, Pictures

CONCEPTS, CELLS = 0.3, 0.2
"""Shares of the concepts and of the cells that are withheld."""
HEAD, TAIL = 0.5, 0.2
"""Shares of the captions in the most frequent cells and in the rarest."""
FREQUENT = ("head", "middle", "tail")
WITHHELD = ("kept", "unseen-concept", "unseen-cell")
VERSION = 1
"""Raised whenever captions, withholding, groups or questions change: older results are then not taken for new ones."""


@dataclass(frozen=True, eq=False)
class Split:
    """``count`` captions of the pictures, drawn with a fixed seed, so that cells keep their frequencies."""

    pictures: Pictures
    count: int = 4000
    captions: tuple[str, ...] = field(init=False, repr=False)
    rows: tuple[int, ...] = field(init=False, repr=False)
    """The picture of each caption."""
    cell: tuple[str, ...] = field(init=False, repr=False)
    """The cell of each caption."""
    frequent: Tensor = field(init=False, repr=False)
    """(N,) which of :data:`FREQUENT` its cell is."""
    withheld: Tensor = field(init=False, repr=False)
    """(N,) which of :data:`WITHHELD` it is."""

    def __post_init__(self) -> None:
        pictures = self.pictures
        every = {caption: row for row, caption in reversed(list(enumerate(pictures.tagged))) if caption is not None}
        every |= {caption: row for row, caption in enumerate(pictures.names)}
        checks.whole("captions", self.count, least=1)
        if self.count > len(every):
            raise InvalidSetting("captions", "range", f"captions must be at most {len(every)}, got {self.count}")
        ordered = sorted(every)
        chosen = torch.randperm(len(ordered), generator=torch.Generator().manual_seed(1))[: self.count].sort()[0]
        captions = [ordered[place] for place in chosen.tolist()]
        rows = [every[caption] for caption in captions]
        cells = [f"{STYLES[pictures.style[row]]}, {pictures.subcategory[row]}" for row in rows]
        values = {
            "captions": tuple(captions),
            "rows": tuple(rows),
            "cell": tuple(cells),
            "frequent": _frequent(cells),
            "withheld": _withheld(pictures)[torch.tensor(rows)],
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.captions)

    def shown(self, count: int) -> Tensor:
        """(M,) the captions whose pictures are the student's: ``count`` of those that are not withheld."""
        kept = (self.withheld == 0).nonzero()[:, 0]
        if count > len(kept):
            message = f"images must be at most {len(kept)}, one for each caption that is not withheld, got {count}"
            raise InvalidSetting("images", "range", message)
        return kept[torch.randperm(len(kept), generator=torch.Generator().manual_seed(5))[:count]]

    def groups(self, images: int) -> dict[str, Tensor]:
        """(N,) float64 shares of the captions in each group: all alike, every cell alike, by frequency of the cell, by
        whether their own picture is among the student's ``images``, and by how they are withheld."""
        ones, sizes = torch.ones(len(self), dtype=torch.float64), Counter(self.cell)
        alike = torch.tensor([1 / sizes[cell] for cell in self.cell], dtype=torch.float64)
        found = {"uniform": ones, "cells": alike}
        found |= {name: ones * (self.frequent == place) for place, name in enumerate(FREQUENT)}
        found |= {"shown": torch.zeros_like(ones).index_fill(0, self.shown(images), 1.0)}
        found |= {"unseen": ones * (self.withheld > 0)}
        found |= {name: ones * (self.withheld == place) for place, name in enumerate(WITHHELD) if place}
        found["unseen-tail"] = found["unseen"] * found["tail"]
        return {name: share / share.sum() for name, share in found.items() if float(share.sum()) > 0}

    def asked(self, count: int) -> tuple[Tensor, Tensor]:
        """About ``count`` captions for an evaluation, (M,), and how many captions each stands for, (M,).

        Captions are sampled by stratum (frequency × kind of withholding), in proportion to the square root of the
        stratum's size, so that rare strata are measured well too.
        """
        total = len(FREQUENT) * len(WITHHELD)
        stratum = self.frequent * len(WITHHELD) + self.withheld
        share = torch.bincount(stratum, minlength=total).double().sqrt()
        wanted = (count * share / share.sum()).round().long().tolist()
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(2))
        chosen, stands = [], []
        for place in range(total):
            members = order[stratum[order] == place]
            taken = members[: max(1, wanted[place])]
            chosen.append(taken)
            stands.append(torch.full((len(taken),), len(members) / max(1, len(taken)), dtype=torch.float64))
        rows, sort = torch.cat(chosen).sort()
        return rows, torch.cat(stands)[sort]


def _frequent(cells: list[str]) -> Tensor:
    """(N,) 0 for captions of the most frequent cells, which have :data:`HEAD` of all captions, 2 for those of the
    rarest, which have :data:`TAIL`, and 1 for the rest."""
    sizes = Counter(cells)
    ranked = sorted(sizes, key=lambda cell: (-sizes[cell], cell))
    place, before = {}, 0
    for cell in ranked:
        place[cell] = 0 if before < HEAD * len(cells) else 2 if before >= (1 - TAIL) * len(cells) else 1
        before += sizes[cell]
    return torch.tensor([place[cell] for cell in cells])


def _withheld(pictures: Pictures) -> Tensor:
    """(P,) for each picture which of :data:`WITHHELD` it is; the same whatever captions the pool has."""
    random = torch.Generator().manual_seed(3)
    concepts = sorted(set(pictures.concept))
    cells = sorted(set(zip(pictures.style, pictures.subcategory, strict=True)))
    kept = torch.rand(len(concepts), generator=random) >= CONCEPTS
    style = torch.randint(len(STYLES), (len(concepts),), generator=random)
    alone = {name: -1 if keeps else number for name, keeps, number in zip(concepts, kept.tolist(), style.tolist())}
    hidden = torch.randperm(len(cells), generator=random)[: round(CELLS * len(cells))].tolist()
    whole = {cells[place] for place in hidden}
    rows = zip(pictures.style, pictures.subcategory, pictures.concept, strict=True)
    return torch.tensor([2 if (s, sub) in whole else 1 if alone[name] == s else 0 for s, sub, name in rows])
