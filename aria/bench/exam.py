"""The evaluation ("exam") of stacked students: the same conditions, noise and timesteps for all arms of a seed."""

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
"""By metric, on the CPU: (A, N) values for each condition for "gap" and "x0", (A, 1) for "own"."""


@dataclass(frozen=True, eq=False)
class Exam:
    """Fixed inputs for the students of one seed, and their teacher's outputs."""

    world: World
    seed: int
    noises: int = 2
    """Number of images of each condition."""
    steps: int = 15
    """Number of DDIM steps."""
    inputs: dict[str, Any] = field(init=False, repr=False)
    targets: dict[str, Tensor] = field(init=False, repr=False)

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
        start, encoded = randn((len(index), *shape)), conditions(index)
        made = metrics.ddim(lambda x, t: self._teach(x, _all(t, x), encoded), start, schedule, self.steps)
        timestep = timesteps(len(index))
        noisy = schedule.add_noise(made, randn(start.shape), timestep)
        clean, own = self.world.images.gather(torch.randint(len(self.world.images), (512,), generator=generator))
        own_timestep = timesteps(len(own))
        own_noisy = schedule.add_noise(clean.to(device), randn(clean.shape), own_timestep)
        inputs: dict[str, Any] = {"encoded": encoded, "start": start, "timestep": timestep, "noisy": noisy}
        inputs |= {"own": conditions(own), "own_timestep": own_timestep, "own_noisy": own_noisy}
        targets = {"made": made, "noise": self._teach(noisy, timestep, encoded)}
        targets |= {"own": self._teach(own_noisy, own_timestep, inputs["own"])}
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "targets", targets)

    def _teach(self, x: Tensor, timestep: Tensor, encoded: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            output: Tensor = self.world.teacher.denoiser(self.world.teacher.model, x, timestep, encoded)
        return output

    def mark(self, stacked: Stacked, runs: slice) -> Scores:
        """The scores of the students of ``runs``, all on this seed's world, with their averaged weights."""
        weights = {name: value[runs] for name, value in stacked.average.items()}
        count = len(next(iter(weights.values())))
        inputs, targets, schedule = self.inputs, self.targets, self.world.teacher.schedule

        def predict(x: Tensor, timestep: Tensor, encoded: dict[str, Tensor]) -> Tensor:
            spread = {name: value.expand(count, *value.shape) for name, value in encoded.items()}
            return stacked.predict(weights, x, timestep.expand(count, -1), spread)

        def many(x: Tensor) -> Tensor:
            return x.expand(count, *x.shape)

        with torch.no_grad():
            made = metrics.ddim(
                lambda x, t: predict(x, _all(t, x[0]), inputs["encoded"]), many(inputs["start"]), schedule, self.steps
            )
            gap = metrics.gap(made, targets["made"], 3).view(count, self.noises, -1).mean(1)
            noise = predict(many(inputs["noisy"]), inputs["timestep"], inputs["encoded"])
            x0 = metrics.snr_weighted(noise, targets["noise"], inputs["timestep"], schedule)
            own = predict(many(inputs["own_noisy"]), inputs["own_timestep"], inputs["own"])
            own_error = metrics.gap(own, targets["own"], 3).mean(1, keepdim=True)
        scores = {"gap": gap, "x0": x0.view(count, self.noises, -1).mean(1), "own": own_error}
        return {name: value.cpu() for name, value in scores.items()}


def _all(timestep: Tensor, x: Tensor) -> Tensor:
    """(B,) the same timestep for every row of ``x`` (B, …), on its device."""
    return timestep.to(x.device).expand(len(x))
