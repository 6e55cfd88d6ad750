"""Captioned scenes: all captions, the frequency of each, and which have no images.

A scene is one object in some place, or two objects of which one is above or left of the other. It is described by a
layout and two slots: the only, upper or left object, and the lower or right one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from aria import checks
from aria.checks import InvalidSetting
from aria.tasks.base import held_out_groups

SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond", "frame", "bar")
COLOURS = ("red", "green", "blue", "yellow", "purple", "white", "orange", "cyan")
SIZES = ("small", "large")
PLACES = ("at the top left", "at the top right", "at the bottom left", "at the bottom right", "in the middle")
ABOVE, BESIDE = len(PLACES), len(PLACES) + 1
"""The layouts after the places: one object above another, and one left of another."""
RELATIONS = ("above", "below", "left of", "right of")
NONE = -1
"""Shape, colour and size of an absent object."""


@dataclass(frozen=True, eq=False)
class Facts:
    """The contents of N scenes."""

    layout: Tensor
    """(N,) an index into :data:`PLACES`, ABOVE or BESIDE."""
    shape: Tensor
    """(N, 2) shape in each slot."""
    colour: Tensor
    """(N, 2) colour in each slot."""
    size: Tensor
    """(N, 2) size in each slot."""

    def __len__(self) -> int:
        return len(self.layout)

    def __getitem__(self, rows: Tensor) -> Facts:
        return Facts(self.layout[rows], self.shape[rows], self.colour[rows], self.size[rows])

    def to(self, device: torch.device | str) -> Facts:
        """The same scenes on a device."""
        return Facts(*(getattr(self, name).to(device) for name in ("layout", "shape", "colour", "size")))


@dataclass(frozen=True)
class Scenes:
    """All captions of a world. Its shapes and colours are the first ones of their lists, in order of frequency.

    >>> scenes = Scenes(shapes=2, colours=2, pairs=4)
    >>> len(scenes), scenes.captions[0], scenes.captions[-1]
    (44, 'a small red circle at the top left', 'a green square above a red square')
    """

    shapes: int = 4
    colours: int = 4
    pairs: int = 160
    """Number of captions of two objects, drawn from all possible ones."""
    skew: float = 1.2
    """Zipf exponent of the frequencies of shapes and of colours."""
    captions: tuple[str, ...] = field(init=False, repr=False, compare=False)
    facts: Facts = field(init=False, repr=False, compare=False)
    share: Tensor = field(init=False, repr=False, compare=False)
    """(N,) frequency of each caption; captions of two objects have half of the total."""
    rarest: Tensor = field(init=False, repr=False, compare=False)
    """(N,) frequency rank of the rarest concept (shape and colour) in each caption; 0 is the most frequent."""
    unseen: Tensor = field(init=False, repr=False, compare=False)
    """(N,) which captions have no images: those with a concept whose shape and colour appear together in no image."""

    def __post_init__(self) -> None:
        for name, most in (("shapes", len(SHAPES)), ("colours", len(COLOURS))):
            checks.whole(name, getattr(self, name), least=2)
            if getattr(self, name) > most:
                raise InvalidSetting(name, "range", f"{name} must be at most {most}, got {getattr(self, name)}")
        concepts = self.shapes * self.colours
        checks.whole("pairs", self.pairs, least=0)
        if self.pairs > (most := concepts * (concepts - 1) * len(RELATIONS)):
            message = f"pairs must be at most {most} with {concepts} concepts, got {self.pairs}"
            raise InvalidSetting("pairs", "range", message)
        checks.non_negative("skew", self.skew)
        for name, value in self._enumerated().items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.captions)

    def _enumerated(self) -> dict[str, object]:
        shape, colour = (axis.flatten() for axis in _grid(self.shapes, self.colours))  # (C,) of each concept
        frequency = ((shape + 1.0) * (colour + 1.0)).double() ** -self.skew  # (C,)
        alone, concept, facts = self._alone(shape, colour)
        pairs, couples, more = self._pairs(shape, colour)
        single, double = frequency[concept], frequency[couples].prod(1)
        rank = frequency.argsort(descending=True, stable=True).argsort(stable=True)  # (C,)
        unseen = (shape + colour) % 3 == 2
        parts = [single / single.sum(), double / double.sum()] if self.pairs else [single]
        share = torch.cat(parts)
        return {
            "captions": (*alone, *pairs),
            "facts": Facts(*(torch.cat([a, b]) for a, b in zip(facts, more, strict=True))),
            "share": share / share.sum(),
            "rarest": torch.cat([rank[concept], rank[couples].amax(1)]),
            "unseen": torch.cat([unseen[concept], unseen[couples].any(1)]),
        }

    def _alone(self, shape: Tensor, colour: Tensor) -> tuple[list[str], Tensor, tuple[Tensor, ...]]:
        """Every concept in every size at every place, as captions, concepts and facts."""
        concept, size, place = (axis.flatten() for axis in _grid(len(shape), len(SIZES), len(PLACES)))
        facts = (place, *(_slots(value) for value in (shape[concept], colour[concept], size)))
        captions = [
            f"a {SIZES[s]} {COLOURS[colour[c]]} {SHAPES[shape[c]]} {PLACES[p]}"
            for c, s, p in zip(concept.tolist(), size.tolist(), place.tolist(), strict=True)
        ]
        return captions, concept, facts

    def _pairs(self, shape: Tensor, colour: Tensor) -> tuple[list[str], Tensor, tuple[Tensor, ...]]:
        """Pairs of two concepts in a relation, chosen at random with a fixed seed, as captions, concepts and facts."""
        first, second, relation = (axis.flatten() for axis in _grid(len(shape), len(shape), len(RELATIONS)))
        differ = (first != second).nonzero()[:, 0]
        chosen = differ[torch.randperm(len(differ), generator=torch.Generator().manual_seed(0))[: self.pairs]].sort()[0]
        first, second, relation = first[chosen], second[chosen], relation[chosen]
        captions = [
            f"{_a(COLOURS[colour[a]])} {SHAPES[shape[a]]} {RELATIONS[r]} {_a(COLOURS[colour[b]])} {SHAPES[shape[b]]}"
            for a, b, r in zip(first.tolist(), second.tolist(), relation.tolist(), strict=True)
        ]
        named = torch.stack([first, second], 1)  # (N, 2) in the caption's order
        placed = torch.where((relation % 2 == 1)[:, None], named.flip(1), named)  # below and right of: reversed
        layout = torch.where(relation < 2, ABOVE, BESIDE)
        return captions, named, (layout, shape[placed], colour[placed], torch.full_like(placed, NONE))

    def concept(self, row: int) -> str:
        """The region of a caption: its shape and colour, or those of the rarest object of a pair.

        >>> Scenes().concept(0), Scenes().concept(len(Scenes()) - 1)
        ('red circle', 'two, yellow cross')
        """
        slots = range(1 if self.facts.layout[row] < ABOVE else 2)
        shape, colour = self.facts.shape[row], self.facts.colour[row]
        slot = max(slots, key=lambda slot: int((shape[slot] + 1) * (colour[slot] + 1)))
        name = f"{COLOURS[colour[slot]]} {SHAPES[shape[slot]]}"
        return name if len(slots) == 1 else f"two, {name}"

    def groups(self) -> dict[str, Tensor]:
        """(N,) shares of each group; head is the most frequent 3 in 16 of the concepts, tail the rarest half."""
        concepts = self.shapes * self.colours
        head, tail = self.rarest < max(1, round(concepts * 3 / 16)), self.rarest >= concepts - concepts // 2
        return held_out_groups(self.share, head, tail, self.unseen)


def _grid(*sizes: int) -> tuple[Tensor, ...]:
    return torch.meshgrid(*(torch.arange(size) for size in sizes), indexing="ij")


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _slots(value: Tensor) -> Tensor:
    """(N, 2) the object in the first slot and an absent one in the second."""
    return torch.stack([value, torch.full_like(value, NONE)], 1)
