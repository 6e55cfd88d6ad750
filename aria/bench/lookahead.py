"""Greedy lookahead: how far could a rule get that knows what each arm's next steps will be worth?

All arms go on from one student. Some steps later their students are examined on the real metric, the generation gap
averaged uniformly over conditions; the best one's weights, moving average and optimiser state go to all of them, and
so on. That costs as much as all arms together and looks at the examination's own questions: it is no rule, but a mark
to measure rules by. It is greedy, so it is not the best possible either, and an arm that pays late may pass it. What an
arm's sampler has learned stays its own: after a change of student its estimates lag, and rows that the last student
began go on from that student's answer for a step or two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from aria.bench.exam import Exam, Scores
from aria.bench.stacked import Stacked

TURNS = 20
"""How often in a run the best student is chosen."""


class Lookahead:
    """The runs of all candidates on some seeds; after every turn they go on from the best one's student."""

    def __init__(self, stacked: Stacked, exams: Mapping[int, Exam], arms: int, steps: int) -> None:
        self.stacked, self.exams, self.arms = stacked, exams, arms
        self._turns = {round(steps * (turn + 1) / TURNS) for turn in range(TURNS)}

    def step(self) -> None:
        """One step of every candidate."""
        self.stacked.step()
        if self.stacked.step_count in self._turns:
            for seed, runs in self._places():
                _, best = self._judged(seed, runs)
                adopt(self.stacked, runs.start + best, runs)

    def marks(self) -> Iterator[tuple[int, Scores]]:
        """By seed, the scores of its best student now."""
        for seed, runs in self._places():
            scores, best = self._judged(seed, runs)
            yield seed, {name: value[best : best + 1] for name, value in scores.items()}

    def _places(self) -> Iterator[tuple[int, slice]]:
        for place, seed in enumerate(self.exams):
            yield seed, slice(place * self.arms, (place + 1) * self.arms)

    def _judged(self, seed: int, runs: slice) -> tuple[Scores, int]:
        """All scores, and which candidate has the smallest gap uniformly over conditions."""
        exam = self.exams[seed]
        scores = exam.mark(self.stacked, runs)
        return scores, int((scores["gap"].double() * exam.world.groups["uniform"]).sum(1).argmin())


def adopt(stacked: Stacked, best: int, runs: slice) -> None:
    """Let ``runs`` go on from the run ``best``: its weights, their average and the optimiser's memory."""
    with torch.no_grad():
        for value in (*_memory(stacked), *stacked.parameters.values(), *stacked.average.values()):
            value[runs] = value[best].clone()


def _memory(stacked: Stacked) -> Sequence[Tensor]:
    held = (stacked.optimizer.state[value] for value in stacked.parameters.values())
    return [value for memory in held for value in memory.values() if value.ndim]
