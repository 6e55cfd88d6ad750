"""The examination of stacked students: the same questions for all arms of a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aria.bench import metrics
from aria.bench.stacked import Stacked
from aria.tasks import World

Scores = dict[str, Tensor]
"""On the CPU, by metric: (A, N) per condition for "gap" and "x0", (A, 1) for "own"."""


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
        generator, device = torch.Generator().manual_seed(self.seed + 1_000_003), self.world.device
        count, shape = len(self.world.pool), self.world.images.gather(torch.tensor([0]))[0].shape[1:]

        def randn(like: Sequence[int]) -> Tensor:
            return torch.randn(*like, generator=generator).to(device)

        def timesteps(count: int) -> Tensor:
            return torch.randint(len(schedule), (count,), generator=generator).to(device)

        def conditions(index: Tensor) -> dict[str, Tensor]:
            return {name: value.to(device) for name, value in self.world.conditions.gather(index).items()}

        index, schedule = torch.arange(count).repeat(self.noises), self.world.teacher.schedule
        start, told = randn((len(index), *shape)), conditions(index)
        made = metrics.ddim(lambda x, t: self._teach(x, _all(t, x), told), start, schedule, self.steps)
        timestep = timesteps(len(index))
        noisy = schedule.add_noise(made, randn(start.shape), timestep)
        clean, own = self.world.images.gather(torch.randint(len(self.world.images), (512,), generator=generator))
        when = timesteps(len(own))
        shown = schedule.add_noise(clean.to(device), randn(clean.shape), when)
        questions: dict[str, Any] = {"told": told, "start": start, "timestep": timestep, "noisy": noisy}
        questions |= {"own": conditions(own), "when": when, "shown": shown}
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
            made = metrics.ddim(
                lambda x, t: say(x, _all(t, x[0]), asked["told"]), many(asked["start"]), schedule, self.steps
            )
            gap = metrics.gap(made, right["made"], 3).view(count, self.noises, -1).mean(1)
            noise = say(many(asked["noisy"]), asked["timestep"], asked["told"])
            x0 = metrics.snr_weighted(noise, right["noise"], asked["timestep"], schedule)
            own = say(many(asked["shown"]), asked["when"], asked["own"])
            own_error = metrics.gap(own, right["own"], 3).mean(1, keepdim=True)
        scores = {"gap": gap, "x0": x0.view(count, self.noises, -1).mean(1), "own": own_error}
        return {name: value.cpu() for name, value in scores.items()}


def _all(timestep: Tensor, x: Tensor) -> Tensor:
    """(B,) the same timestep for every row of ``x`` (B, …), beside it."""
    return timestep.to(x.device).expand(len(x))
