"""Many small runs trained as one model: every parameter has a leading axis of runs, and one forward pass serves all.

Each run has its own sampler, batches and random numbers, the same as in the engine, and runs do not affect one another:
a stacked run equals the engine's run up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

import aria
from aria import checks, registry
from aria.allocators import Oracle
from aria.bench import device
from aria.bench.arms import ORACLE, Arm
from aria.bench.settings import Setting
from aria.checks import InvalidSetting
from aria.distill.engine.batch import Batch
from aria.distill.engine.batches import Source, State
from aria.distill.engine.on_policy import OnPolicy
from aria.distill.engine.optimiser import adamw
from aria.distill.engine.replacement import Replacement
from aria.distill.models.denoisers import Evaluate
from aria.distill.objectives import Weighting, per_sample
from aria.distill.settings.config import AdamW
from aria.pool import Pool
from aria.samplers import Sampler
from aria.statistics import sum_by_region
from aria.tasks import Task, World

ORACLE_OF = "proportional(base=0.5)"
"""The allocator of the oracle arm, which is given exact discrepancies."""


@dataclass(frozen=True)
class Recipe:
    """How every run in memory is trained."""

    steps: int = 2000
    batch_size: int = 64
    optimiser: AdamW = field(default=AdamW(learning_rate=2e-3, adam_weight_decay=0.0))
    ema_decay: float = 0.995
    null_probability: float = 0.1
    warmup: int = 50
    """Number of steps before the allocator is used."""
    every: int = 10
    """Number of steps between two updates of the sampler."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "every"):
            checks.whole(name, getattr(self, name), least=1)
        checks.whole("warmup", self.warmup, least=0)
        checks.closed_unit("ema_decay", self.ema_decay)
        checks.closed_unit("null_probability", self.null_probability)
        if not isinstance(self.optimiser, AdamW):
            raise InvalidSetting("optimiser", "type", f"optimiser must be an AdamW, got {self.optimiser!r}")


class Stacked:
    """The runs of all arms on several worlds as one model, on the device of the worlds' teachers."""

    def __init__(
        self, task: Task, worlds: dict[int, World], arms: Sequence[Arm], setting: Setting, recipe: Recipe
    ) -> None:
        self.task, self.recipe, self.worlds = task, recipe, worlds
        self.device = next(iter(worlds.values())).device
        self.runs = [(seed, arm) for seed in worlds for arm in arms]
        students = [task.student(seed) for seed, _ in self.runs]
        self.predict = _Students(students[0], next(iter(worlds.values())).teacher.denoiser, self.device)
        parameters, _ = stack_module_state(students)  # (R, …) each
        self.parameters = {
            name: value.detach().to(self.device).requires_grad_() for name, value in parameters.items()
        }
        self.average = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.optimizer = adamw(recipe.optimiser, list(self.parameters.values()))
        self.sources = [self._source(seed, arm, setting) for seed, arm in self.runs]
        self.flows = [State() for _ in self.runs]
        levels = [self._levels(seed, arm, setting) for seed, arm in self.runs]
        self.levels = torch.stack(levels)  # (R, T)
        self.step_count = 0
        self._recorded: Callable[..., Tensor] | None = None
        for place, (_, arm) in enumerate(self.runs):
            if arm.allocator == ORACLE:
                oracle = Oracle(_Truth(self, place), of=registry.allocator(ORACLE_OF))
                self.sources[place].sampler.allocator = oracle

    def _source(self, seed: int, arm: Arm, setting: Setting) -> Source:
        world = self.worlds[seed]
        replacement = registry.resolve(arm.replacement or setting.replacement, Replacement)
        schedule = world.teacher.schedule
        sampler = self.sampler(world, arm, seed)
        return Source(
            world.images,
            world.conditions,
            sampler,
            schedule,
            size=self.recipe.batch_size,
            replacement=replacement.table(len(schedule)),
            null_probability=self.recipe.null_probability,
            on_policy=OnPolicy(arm.on_policy),
            seed=seed,
        )

    def sampler(self, world: World, arm: Arm, seed: int) -> Sampler:
        pool = world.pool
        if arm.by_condition:
            pool = Pool(embeddings=pool.embeddings, columns=pool.columns, texts=pool.texts)
        partition = registry.partitioner(arm.partitioner).fit(pool)
        return aria.Sampler(
            partition,
            tracker=arm.tracker,
            allocator="pool" if arm.allocator == ORACLE else arm.allocator,
            floor=arm.floor,
            warmup=-(-self.recipe.warmup // self.recipe.every),  # the sampler counts updates, not steps
            every=self.recipe.every,
            timesteps=len(world.teacher.schedule),
            seed=seed,
        )

    def _levels(self, seed: int, arm: Arm, setting: Setting) -> Tensor:
        teacher = self.worlds[seed].teacher
        weighting: Weighting = registry.resolve(arm.weighting or setting.weighting, Weighting)
        return weighting.table(teacher.schedule, teacher.prediction)

    def step(self) -> None:
        """One step of every run."""
        drawn = [source.next(flow) for source, flow in zip(self.sources, self.flows, strict=True)]
        batches = [batch for batch, _ in drawn]
        noisy, timestep, weight = (self._stack(batches, name) for name in ("noisy", "timestep", "weight"))  # (R, B, …)
        names = batches[0].condition
        encoded = {name: device.send(torch.stack([b.condition[name] for b in batches]), self.device) for name in names}
        student = self._student(noisy, timestep, encoded)  # (R, B, …)
        teacher = torch.cat([self._teacher(seed, noisy, timestep, encoded) for seed in self.worlds])
        losses = per_sample((student - teacher).flatten(0, 1)).view(timestep.shape)  # (R, B)
        arrived = device.fetch(losses.detach(), student.detach())
        total: Tensor = (weight * self.levels.gather(1, timestep) * losses).mean(1).sum()
        total.backward()  # type: ignore[no-untyped-call]
        self._update()
        prediction = next(iter(self.worlds.values())).teacher.prediction
        for place, (loss, output) in enumerate(zip(*arrived(), strict=True)):
            source, (batch, pending) = self.sources[place], drawn[place]
            self.flows[place] = source.advance(pending, output, prediction)
            source.sampler.observe(
                batch.region, loss, timestep=batch.timestep, where=~batch.null, visit=batch.visit
            )
        self.step_count += 1

    def _stack(self, batches: list[Batch], name: str) -> Tensor:
        """(R, B, …) one field of all batches, on the device."""
        return device.send(torch.stack([getattr(batch, name) for batch in batches]), self.device)

    def _teacher(self, seed: int, noisy: Tensor, timestep: Tensor, encoded: dict[str, Tensor]) -> Tensor:
        """(A, B, …) outputs of one seed's teacher for all runs of that seed."""
        places = [place for place, (owner, _) in enumerate(self.runs) if owner == seed]
        cut, teacher = slice(places[0], places[-1] + 1), self.worlds[seed].teacher  # runs of one seed are adjacent
        flat = {name: value[cut].flatten(0, 1) for name, value in encoded.items()}
        with torch.no_grad():
            output = teacher.denoiser(teacher.model, noisy[cut].flatten(0, 1), timestep[cut].flatten(), flat)
        return output.view(len(places), -1, *output.shape[1:])

    def _student(self, noisy: Tensor, timestep: Tensor, encoded: dict[str, Tensor]) -> Tensor:
        """(R, B, …) outputs of each run's student in training; every call must have the same batch size."""
        given = noisy, timestep, *encoded.values(), *self.parameters.values()
        if self._recorded is None:
            conditions, weights, predict = tuple(encoded), tuple(self.parameters), self.predict

            def student(noisy: Tensor, timestep: Tensor, *rest: Tensor) -> Tensor:
                encoded, own = rest[: len(conditions)], rest[len(conditions) :]
                return predict(dict(zip(weights, own)), noisy, timestep, dict(zip(conditions, encoded)))

            self._recorded = device.recorded(student, given)
        return self._recorded(*given)

    def _update(self) -> None:
        """Clip the gradients of each run separately, step the optimiser, update the moving average."""
        weights = list(self.parameters.values())
        gradients = [value.grad for value in weights if value.grad is not None]
        norm = torch.cat([grad.flatten(1) for grad in gradients], 1).square().sum(1).sqrt()  # (R,)
        scale = (self.recipe.optimiser.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, [scale.view(-1, *(1,) * (grad.ndim - 1)) for grad in gradients])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        decay = min(self.recipe.ema_decay, (1 + self.step_count) / (10 + self.step_count))
        torch._foreach_lerp_(list(self.average.values()), [value.detach() for value in weights], 1 - decay)


class _Truth:
    """The exact discrepancies of one run, between its student and its teacher on a fixed set of inputs.

    Each condition is paired with randomly drawn images at timesteps distributed as in replacement, and every squared
    error is divided by the mean of its timestep's bucket over all conditions: what a tracker estimates, without noise
    or lag.
    """

    def __init__(self, stacked: Stacked, place: int, repeats: int = 8) -> None:
        self.place, self.parameters = place, stacked.parameters
        self.predict = stacked.predict  # not ``stacked``, which would be a reference cycle
        seed, _ = stacked.runs[place]
        world, source = stacked.worlds[seed], stacked.sources[place]
        generator = torch.Generator().manual_seed(seed + 2_000_003)
        count, schedule = len(world.pool), source.schedule
        index = torch.arange(count).repeat(repeats)
        clean, _ = world.images.gather(torch.randint(len(world.images), (len(index),), generator=generator))
        timestep = torch.multinomial(source.replacement, len(index), replacement=True, generator=generator)
        noisy = schedule.add_noise(clean, torch.randn(clean.shape, generator=generator), timestep)
        encoded = {name: value.to(world.device) for name, value in world.conditions.gather(index).items()}
        bucket = timestep * 10 // len(schedule)
        noisy, timestep = noisy.to(world.device), timestep.to(world.device)
        with torch.no_grad():
            target = world.teacher.denoiser(world.teacher.model, noisy, timestep, encoded)
        self.inputs, self.target = (noisy, timestep, encoded), target  # on the teacher's device
        share = world.pool.weight if world.pool.weight is not None else torch.ones(count, dtype=torch.float64)
        self.region, self.share = source.sampler.partition.locate(index), share[index]
        self.bucket, self.regions = bucket, source.sampler.num_regions

    def __call__(self) -> Tensor:
        """(K,) current mean normalised discrepancy of every region."""
        noisy, timestep, encoded = self.inputs
        own = {name: value.detach()[self.place : self.place + 1] for name, value in self.parameters.items()}
        one = {name: value[None] for name, value in encoded.items()}
        with torch.no_grad():
            output = self.predict(own, noisy[None], timestep[None], one)[0]
        error = per_sample(output - self.target).double().cpu()
        count, total = sum_by_region(self.bucket, (torch.ones_like(error), error), 10)
        error = error / (total / count.clamp(min=1))[self.bucket]
        share, seen = sum_by_region(self.region, (self.share, self.share * error), self.regions)
        return seen / share.clamp(min=1e-300)


class _Students:
    """The outputs of students with the same architecture, as one model."""

    def __init__(self, student: nn.Module, denoiser: Evaluate, device: torch.device) -> None:
        self.module, self.denoiser = copy.deepcopy(student).to("meta"), denoiser
        self.constants = {name: value.to(device) for name, value in student.named_buffers()}

    def __call__(
        self, parameters: dict[str, Tensor], noisy: Tensor, timestep: Tensor, encoded: dict[str, Tensor]
    ) -> Tensor:
        """(R, B, …) outputs of each of R students, given their (R, …) weights."""

        def one(own: dict[str, Tensor], x: Tensor, t: Tensor, c: dict[str, Tensor]) -> Tensor:
            return self.denoiser(_Called(self.module, {**own, **self.constants}), x, t, c)

        result: Tensor = vmap(one)(parameters, noisy, timestep, encoded)
        return result


class _Called(nn.Module):
    """A module without weights of its own, called with given ones."""

    def __init__(self, module: nn.Module, weights: dict[str, Any]) -> None:
        super().__init__()
        self._called = module, weights

    def forward(self, *args: Any) -> Any:
        return functional_call(*self._called, args)
