"""Probes in the places of a model's blocks: they watch a block, skip it, or put a linear map in its place.

Blocks differ in what they take, and are alike in what flows through them. A block that returns one tensor takes it as
its first argument; one that returns two, the streams of text and image, takes them by names.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from aria.distill.students.transformer.family import Family
from aria.distill.students.transformer.repair import LinearRepair, Moments

Streams = dict[str, Tensor]
Place = tuple[str, int]
"""A block: the list it is in, ``blocks`` or ``single_blocks``, and its number."""
HALVES = (0, 1)


class Probe(nn.Module):
    """In the place of ``block``. What it does with the block is ``how``:

    - ``run``: nothing else; ``watch``: its inputs and outputs are compared;
    - ``skip``: what enters, leaves; ``fit``: the same, but the block runs beside it, and its moments are counted;
    - ``repair``: what enters leaves through a linear map.

    There is a map for each half of the samples, fitted on the other half.
    """

    def __init__(self, block: nn.Module, returns: tuple[str, ...]) -> None:
        super().__init__()
        self.block, self.returns = block, returns
        self.passing = 0
        """Which half of the samples is passing."""
        self.how: Literal["run", "watch", "skip", "fit", "repair"] = "run"
        self._signature = inspect.signature(block.forward)
        self._cosine = torch.zeros(2, dtype=torch.float64)
        self._moments: list[dict[str, Moments]] = []
        self._maps: list[dict[str, LinearRepair]] = []

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The block's outputs, or what stands for them."""
        if self.how == "run":
            return self.block(*args, **kwargs)
        arguments = self._signature.bind(*args, **kwargs).arguments
        if self.how in ("watch", "fit"):
            output = self.block(*args, **kwargs)
            if isinstance(output, Tensor):
                self.returns = tuple(self._signature.parameters)[:1]
            given = {name: arguments[name] for name in self.returns}
            made = dict(zip(self.returns, (output,) if isinstance(output, Tensor) else output, strict=True))
            if self.how == "watch":
                self._watch(given, made)
                return output
            for name, moments in self._moments[self.passing].items():
                moments.add(given[name], made[name])
        given = {name: arguments[name] for name in self.returns}
        if self.how == "repair":
            given = {name: self._maps[self.passing][name](value) for name, value in given.items()}
        return tuple(given.values()) if len(given) > 1 else given[self.returns[0]]

    def _watch(self, given: Streams, made: Streams) -> None:
        """Count the cosines of all tokens; padding may be nothing but zeros, and has none."""
        for name, before in given.items():
            there = before.any(-1)
            cosine = nn.functional.cosine_similarity(before.float(), made[name].float(), dim=-1)[there]
            self._cosine += torch.stack([cosine.double().sum(), there.sum().double()]).cpu()

    @property
    def similarity(self) -> float:
        """The mean cosine of what entered and what left, over the tokens that were watched."""
        return float(self._cosine[0] / self._cosine[1])

    def fit(self) -> None:
        """Skip the block from now on, and count its moments anew."""
        self.how = "fit"
        self._moments = [{name: Moments() for name in self.returns} for _ in HALVES]

    def repair(self) -> None:
        """Put the maps that fit what was counted in the place of the block."""
        solved = [{name: moments.solve() for name, moments in half.items()} for half in self._moments]
        self._maps, self._moments, self.how = solved[::-1], [], "repair"

    def restore(self) -> None:
        """Let the block run again, and forget the maps."""
        self._maps, self.how = [], "run"


@contextmanager
def probed(model: nn.Module, family: Family) -> Iterator[dict[Place, Probe]]:
    """A probe in the place of every block that may go; afterwards the model is as it was.

    The block that has to stay is left alone: the model may need more of it than what it returns.
    """
    lists: Mapping[str, Any] = {
        "blocks": getattr(model, family.blocks), "single_blocks": getattr(model, family.singles, [])
    }  # fmt: skip
    stays = None if family.stays is None else range(len(lists["blocks"]))[family.stays]
    probes = {
        (name, place): Probe(block, family.returns)
        for name, blocks in lists.items()
        for place, block in enumerate(blocks)
        if (name, place) != ("blocks", stays)
    }
    try:
        for (name, place), probe in probes.items():
            lists[name][place] = probe
        yield probes
    finally:
        for (name, place), probe in probes.items():
            lists[name][place] = probe.block
