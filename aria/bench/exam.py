"""The examination of stacked students: the same questions for all arms of a seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aria.bench import metrics
from aria.bench.stacked import Stacked
from aria.tasks import World

Scores = dict[str, Tensor]
"""By metric: (A, N) per condition for "gap" and "x0", (A, 1) for "own"."""


@dataclass(frozen=True, eq=False)
class Exam:
    """Questions to one seed's students, and its teacher's answers."""

    world: World
    seed: int
    noises: int = 2
    """Images of each condition."""
    steps: int = 15
    """Steps of the sampler."""
    questions: dict[str, Any] = field(init=False, repr=False)
    answers: dict[str, Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed + 1_000_003)
        count, shape = len(self.world.pool), self.world.images.gather(torch.tensor([0]))[0].shape[1:]
        index = torch.arange(count).repeat(self.noises)
        start = torch.randn(len(index), *shape, generator=generator)
        told = self.world.conditions.gather(index)
        schedule = self.world.teacher.schedule
        made = metrics.ddim(lambda x, t: self._teach(x, t.expand(len(x)), told), start, schedule, self.steps)
        timestep = torch.randint(len(schedule), (len(index),), generator=generator)
        noisy = schedule.add_noise(made, torch.randn(start.shape, generator=generator), timestep)
        rows = torch.randint(len(self.world.images), (512,), generator=generator)
        clean, own = self.world.images.gather(rows)
        when = torch.randint(len(schedule), (len(rows),), generator=generator)
        shown = schedule.add_noise(clean, torch.randn(clean.shape, generator=generator), when)
        questions: dict[str, Any] = {"told": told, "start": start, "timestep": timestep, "noisy": noisy}
        questions |= {"own": self.world.conditions.gather(own), "when": when, "shown": shown}
        answers = {"made": made, "noise": self._teach(noisy, timestep, told)}
        answers |= {"own": self._teach(shown, when, questions["own"])}
        object.__setattr__(self, "questions", questions)
        object.__setattr__(self, "answers", answers)

    def _teach(self, x: Tensor, timestep: Tensor, told: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            answer: Tensor = self.world.teacher.denoiser(self.world.teacher.model, x, timestep, told)
        return answer

    def mark(self, stacked: Stacked, runs: slice) -> Scores:
        """The scores of the averaged students of ``runs``, all on this seed's world."""
        weights = {name: value[runs] for name, value in stacked.average.items()}
        count = len(next(iter(weights.values())))
        asked, right, schedule = self.questions, self.answers, self.world.teacher.schedule

        def say(x: Tensor, timestep: Tensor, told: dict[str, Tensor]) -> Tensor:
            spread = {name: value.expand(count, *value.shape) for name, value in told.items()}
            return stacked.answer(weights, x, timestep.expand(count, -1), spread)

        def many(x: Tensor) -> Tensor:
            return x.expand(count, *x.shape)

        with torch.no_grad():
            size = len(asked["start"])
            made = metrics.ddim(
                lambda x, t: say(x, t.expand(size), asked["told"]), many(asked["start"]), schedule, self.steps
            )
            gap = metrics.gap(made, right["made"], 3).view(count, self.noises, -1).mean(1)
            noise = say(many(asked["noisy"]), asked["timestep"], asked["told"])
            x0 = metrics.snr_weighted(noise, right["noise"], asked["timestep"], schedule)
            own = say(many(asked["shown"]), asked["when"], asked["own"])
            own_error = metrics.gap(own, right["own"], 3).mean(1, keepdim=True)
        return {"gap": gap, "x0": x0.view(count, self.noises, -1).mean(1), "own": own_error}
