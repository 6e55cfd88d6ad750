"""Greedy lookahead: how much a rule could gain that foresees the effect of each arm's next steps.

All arms start from one student. After some steps their students are evaluated on the real metric, the generation gap
averaged uniformly over conditions, and every arm restarts from the currently best student: its weights, their moving
average and the optimiser's state. This is a reference, not a method: it costs as much as all arms together and selects
on the evaluation itself. It is greedy, so it is not an upper bound, and an arm whose benefit comes late may exceed it.
Each arm keeps its own sampler: after a change of student its estimates lag behind, and on-policy rows continue for a
step or two from the previous student's outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from aria.bench.exam import Exam, Scores
from aria.bench.stacked import Stacked

TURNS = 20
"""Number of times in a run that the best student is chosen."""


class Lookahead:
    """The runs of all arms on several seeds, which restart from the best student after every turn."""

    def __init__(self, stacked: Stacked, exams: Mapping[int, Exam], arms: int, steps: int) -> None:
        self.stacked, self.exams, self.arms = stacked, exams, arms
        self._turns = {round(steps * (turn + 1) / TURNS) for turn in range(TURNS)}

    def step(self) -> None:
        """One step of every arm."""
        self.stacked.step()
        if self.stacked.step_count in self._turns:
            for seed, runs in self._places():
                _, best = self._evaluated(seed, runs)
                adopt(self.stacked, runs.start + best, runs)

    def marks(self) -> Iterator[tuple[int, Scores]]:
        """For every seed, the scores of the currently best student."""
        for seed, runs in self._places():
            scores, best = self._evaluated(seed, runs)
            yield seed, {name: value[best : best + 1] for name, value in scores.items()}

    def _places(self) -> Iterator[tuple[int, slice]]:
        for place, seed in enumerate(self.exams):
            yield seed, slice(place * self.arms, (place + 1) * self.arms)

    def _evaluated(self, seed: int, runs: slice) -> tuple[Scores, int]:
        """The scores of all arms, and the index of the one with the smallest gap averaged uniformly over conditions."""
        exam = self.exams[seed]
        scores = exam.mark(self.stacked, runs)
        return scores, int((scores["gap"].double() * exam.world.groups["uniform"]).sum(1).argmin())


def adopt(stacked: Stacked, best: int, runs: slice) -> None:
    """Copy to ``runs`` the weights of the run ``best``, their average and the optimiser's state."""
    with torch.no_grad():
        for value in (*_optimiser_state(stacked), *stacked.parameters.values(), *stacked.average.values()):
            value[runs] = value[best].clone()


def _optimiser_state(stacked: Stacked) -> Sequence[Tensor]:
    """(R, …) moments of every parameter."""
    states = (stacked.optimizer.state[value] for value in stacked.parameters.values())
    return [value for moments in states for value in moments.values() if value.ndim]
