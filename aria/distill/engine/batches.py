r"""The source of batches. A batch is a function of (seed, step), of the sampler's draws and, in on-policy rows
(:mod:`aria.distill.engine.on_policy`), of the student's last output.

Random conditioning as in D. Kim et al. (CVPR 2025): the next image's latent is noised to a random timestep :math:`t`;
with probability :math:`\pi(t)` its own condition is replaced by one from the pool, and the condition is then dropped
with a small probability. The sampler chooses only the replacements. Without on-policy rows, and with replacements drawn
in proportion to the pool's weights, this is exactly random conditioning.

The source has no state of its own: ``batch, pending = source.next(state)``, then ``state = source.advance(pending,
output, prediction)``. What ``next`` draws it draws from the sampler, which moves on by one step for each. Random
numbers of samples are computed for all ranks; latents and conditions for this rank's slice only. So a global batch does
not depend on the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from aria import checks
from aria.checks import InvalidSetting
from aria.distill.engine.batch import Batch, Encodings, Fetch, Images
from aria.distill.engine.on_policy import Held, OnPolicy, Rows
from aria.distill.models.denoisers import Condition
from aria.distill.models.denoisers.guidance import GUIDANCE
from aria.distill.models.schedule import NoiseSchedule
from aria.interfaces import Draw
from aria.samplers import Sampler, checkpoint
from aria.samplers.draws import step_seed

_ORDER, _NUMBERS = 0x6F72646572, 0x6E756D62657273
"""Make the seeds of the image order and of a step's random numbers differ from the sampler's."""


@dataclass(frozen=True, eq=False)
class _Numbers:
    """Random numbers of a step that do not depend on the draw. Latents are this rank's; all else is for all ranks."""

    clean: Tensor
    noise: Tensor
    own: Tensor
    level: Tensor
    replaced: Tensor
    """(total,) uniform numbers; a condition is replaced where its number is below the timestep's probability."""
    null: Tensor
    guidance: Tensor
    """(total,) uniform numbers that determine the guidance scale."""
    offset: Tensor


@dataclass(frozen=True, eq=False)
class Planned:
    """A step that is drawn and whose conditions are being read. Latents are this rank's; all else is for all ranks."""

    draw: Draw
    clean: Tensor
    noise: Tensor
    timestep: Tensor
    index: Tensor
    region: Tensor
    replaced: Tensor
    null: Tensor
    weight: Tensor
    guidance: Tensor | None
    visit: Tensor | None
    held: Held | None
    fetch: Fetch


@dataclass(frozen=True, eq=False)
class State:
    """Everything that the next batches depend on besides (seed, step) and the sampler."""

    planned: tuple[Planned, ...] = ()
    """Steps that are drawn but not yet trained on."""
    held: Held | None = None
    """The decisions that the on-policy rows of the last step still hold."""
    estimate: tuple[Tensor, Tensor] | None = None
    """(B, …) this rank's images and noise as the student's last output implies them."""


@dataclass(frozen=True, eq=False)
class Pending:
    """The state between a batch and the student's output for it."""

    planned: tuple[Planned, ...]
    held: Held | None
    batch: Batch


class Source:
    """An endless sequence of batches.

    ``ahead`` steps are drawn before they are needed, so that conditions on disk are read while another step runs. The
    sampler then decides that many steps before its decision is used.
    """

    def __init__(
        self,
        images: Images,
        conditions: Encodings,
        sampler: Sampler,
        schedule: NoiseSchedule,
        *,
        size: int,
        replacement: Tensor,
        null_probability: float = 0.1,
        guidance: tuple[float, float] | None = None,
        timesteps: Tensor | None = None,
        on_policy: OnPolicy | None = None,
        ahead: int = 0,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """
        Args:
            size: samples of this rank in a step.
            replacement: (T,) probability that a timestep's condition is replaced.
            guidance: smallest and largest guidance scale, if conditions hold one.
            timesteps: (n,) the timesteps to draw from; all by default.
            on_policy: rows that continue from the student's own outputs; none by default.
            ahead: steps drawn ahead; ignored if the pool is on the device, where there is nothing to read.
        """
        checks.whole("the batch size", size, least=1)
        checks.whole("ahead", ahead, least=0)
        checks.closed_unit("null_probability", null_probability)
        if len(replacement) != len(schedule):
            raise ValueError(f"replacement must have one probability for each of {len(schedule)} timesteps")
        self.images, self.conditions, self.sampler = images, conditions, sampler
        self.device = torch.device(device)
        if sampler.device.type != self.device.type:
            raise ValueError(
                f"the sampler is on {sampler.device}, the models are on {device}: use partition.to({str(device)!r})"
            )
        self.schedule = schedule.to(self.device)
        self.size, self.null_probability = size, null_probability
        self.ahead = 0 if conditions.residency == "device" else ahead
        self.replacement = replacement.to(self.device)  # (T,)
        self.guidance = guidance
        self.timesteps = None if timesteps is None else timesteps.to(self.device)  # (n,)
        rank, ranks = sampler.ranks.place()
        self.total, self._slice = size * ranks, slice(size * rank, size * (rank + 1))
        self._own = images.conditions().to(self.device)  # (M,)
        self._numbers_seed = step_seed(seed, _NUMBERS)
        self._order = lru_cache(maxsize=2)(_Orders(step_seed(seed, _ORDER), len(images)))
        self._generator = torch.Generator(self.device)
        self._drawn = self._drawn_coordinates()
        self._null = {name: value.to(self.device) for name, value in conditions.null(1).items()}
        self._rows = self._on_policy_rows(on_policy)

    # Set up -------------------------------------------------------------------------------------------------------

    def _on_policy_rows(self, settings: OnPolicy | None) -> Rows | None:
        """The on-policy rows; they skip noise levels at which an output barely determines the image."""
        if settings is None or settings.share == 0:
            return None
        if "timestep" in self._drawn or self.timesteps is not None:
            who = "a halved teacher" if self.timesteps is not None else "a partition that draws timesteps"
            raise ValueError(f"on-policy rows choose their own timesteps, so they cannot be used with {who}")
        return Rows(settings, self.total, self.schedule.informative(), self.device)

    def _drawn_coordinates(self) -> set[str]:
        """The coordinates that the partition draws besides conditions: timesteps, guidance scales, or neither."""
        largest = self.sampler.mass.argmax().view(1)
        drawn = self.sampler.partition.draw(largest, self._generator.manual_seed(0)).keys() - {"index"}
        used = {"timestep"} if self.timesteps is None else set()
        used |= set() if self.guidance is None else {GUIDANCE}
        if unused := sorted(drawn - used):
            may = " and ".join(sorted(used)) or "nothing besides conditions here"
            raise ValueError(f"the partition draws {unused[0]}, which training does not use; it may draw {may}")
        if drawn and self.sampler.tracker.uses_visit:
            raise InvalidSetting(
                "tracker",
                "conflict",
                f"{type(self.sampler.tracker).__name__} divides by the probability that a step observes a region, "
                f"available for regions of conditions only; this partition also draws {' and '.join(sorted(drawn))}",
            )
        if GUIDANCE in drawn:
            self._check_scales()
        return drawn

    def _check_scales(self) -> None:
        """Refuse a partition that does not cover exactly the run's range of guidance scales."""
        assert self.guidance is not None
        low, high = self.guidance
        partition, generator = self.sampler.partition.to("cpu"), torch.Generator().manual_seed(0)
        drawn = partition.draw(self.sampler.mass.cpu().nonzero().flatten(), generator)
        scales, index = drawn[GUIDANCE], drawn.pop("index")
        if bool(((scales < low) | (scales > high)).any()):
            raise ValueError(f"the partition draws guidance scales outside the run's range, {low:g} to {high:g}")
        for end in (low, high):
            try:
                partition.locate(index, **(drawn | {GUIDANCE: torch.full_like(scales, end)}))
            except ValueError as error:
                raise ValueError(f"the partition does not cover all guidance scales of the run: {error}") from None

    def probe(self) -> Condition:
        """(1, …) a condition with the same entries as those in batches."""
        scale = {} if self.guidance is None else {GUIDANCE: torch.tensor(self.guidance[:1], device=self.device)}
        return self._null | scale

    @property
    def delay(self) -> int:
        """Steps between a decision of the sampler and its last use: drawn ahead, then held by an on-policy row."""
        return self.ahead + (0 if self._rows is None else self._rows.hops - 1)

    # Batches ------------------------------------------------------------------------------------------------------

    def next(self, state: State) -> tuple[Batch, Pending]:
        """The next step's batch, and the state that :meth:`advance` completes with the student's output for it."""
        planned = list(state.planned)
        while len(planned) <= self.ahead:
            planned.append(self._draw(planned[-1].held if planned else state.held))
        now, *later = planned
        batch = self._batch(now, state)
        return batch, Pending(tuple(later), now.held, batch)

    def advance(self, pending: Pending, output: Tensor, prediction: str) -> State:
        """The state after a step in which the student's output was ``output`` (B, …), of this prediction type."""
        if self._rows is None:
            return State(pending.planned)
        batch = pending.batch
        implied = output.detach().float(), prediction, batch.noisy, batch.timestep
        return State(pending.planned, pending.held, (self.schedule.clean(*implied), self.schedule.noise(*implied)))

    def _draw(self, held: Held | None) -> Planned:
        """Draw and plan the sampler's next step."""
        step = self.sampler.step
        numbers = self._numbers(step)
        counted = self._fresh(numbers, step, held) if self.sampler.tracker.uses_visit else None
        return self._plan(self.sampler.draw(self.size, all_ranks=True, counted=counted), numbers, held)

    def _numbers(self, step: int) -> _Numbers:
        generator = self._generator.manual_seed(step_seed(self._numbers_seed, step))
        rows = self._image_rows(step)
        clean, _ = self.images.gather(rows[self._slice])
        clean = clean.to(self.device, non_blocking=True).float()
        total, levels = self.total, len(self.schedule) if self.timesteps is None else len(self.timesteps)
        level = torch.randint(levels, (total,), generator=generator, device=self.device)
        noise = torch.randn((total, *clean.shape[1:]), generator=generator, device=self.device)[self._slice]
        replaced, null = (self._uniform(generator) for _ in range(2))
        guidance = self._uniform(generator) if self.guidance is not None else torch.zeros_like(null)
        offset = self._uniform(generator) if self._rows is not None else torch.zeros_like(null)
        own = self._own[rows.to(self.device, non_blocking=True)]
        return _Numbers(clean, noise, own, level, replaced, null < self.null_probability, guidance, offset)

    def _uniform(self, generator: torch.Generator) -> Tensor:
        return torch.rand(self.total, generator=generator, device=self.device)

    def _timestep(self, numbers: _Numbers, draw: Draw | None = None) -> Tensor:
        """(total,) timesteps: those that the partition drew, or else random ones."""
        if draw is not None and "timestep" in draw.coords:
            return draw.coords["timestep"]
        return numbers.level if self.timesteps is None else self.timesteps[numbers.level]

    def _fresh(self, numbers: _Numbers, step: int, held: Held | None) -> Tensor:
        """(total,) whether each row is observed under the condition that this step draws for it."""
        replaced = numbers.replaced < self.replacement[self._timestep(numbers)]
        if self._rows is not None:
            replaced = torch.where(self._rows.mask, self._rows.begins(step, held), replaced)
        return replaced & ~numbers.null

    def _plan(self, draw: Draw, numbers: _Numbers, before: Held | None) -> Planned:
        timestep = self._timestep(numbers, draw)
        replaced = numbers.replaced < self.replacement[timestep]
        index, null = torch.where(replaced, draw.index, numbers.own), numbers.null
        guidance, weight, held = self._guidance(numbers, draw), draw.weight, None
        if self._rows is not None:
            rows, begins = self._rows, self._rows.begins(draw.step, before)
            scale = torch.zeros_like(weight) if guidance is None else guidance
            since = torch.full_like(draw.index, draw.step)
            held = rows.carry(Held(begins, since, draw.index, weight, null, numbers.offset, scale), before)
            timestep = torch.where(rows.mask, rows.timestep(draw.step, held), timestep)
            index, null = torch.where(rows.mask, held.condition, index), torch.where(rows.mask, held.null, null)
            weight, replaced = torch.where(rows.mask, held.weight, weight), replaced | rows.mask
            guidance = None if guidance is None else torch.where(rows.mask, held.guidance, guidance)
        coords = {"timestep": timestep} | ({} if guidance is None else {GUIDANCE: guidance})
        coords = {name: value for name, value in coords.items() if name in self._drawn}
        region = self.sampler.partition.locate(index, **coords)
        if not self._drawn:  # only drawn conditions are weighted; where coordinates are drawn, every sample is
            weight = torch.where(replaced & ~null, weight, 1.0)
        visit = draw.visit
        if visit is not None:
            certain = ~null & ~self._fresh(numbers, draw.step, before)
            if self._rows is not None and held is not None:
                certain &= ~self._rows.drawn_from(draw.step - draw.step % self.sampler.every, held)
            visit = self._with_certain(visit, region, certain)
        latents = numbers.clean, numbers.noise
        fetch = self.conditions.prefetch(index[self._slice])
        return Planned(draw, *latents, timestep, index, region, replaced, null, weight, guidance, visit, held, fetch)

    def _guidance(self, numbers: _Numbers, draw: Draw) -> Tensor | None:
        """(total,) guidance scales; None if conditions have none."""
        if self.guidance is None:
            return None
        low, high = self.guidance
        return draw.coords.get(GUIDANCE, low + (high - low) * numbers.guidance)

    def _with_certain(self, visit: Tensor, region: Tensor, certain: Tensor) -> Tensor:
        """(K,) visit probabilities, 1 where a row is certain to observe the region: under its image's own condition, or
        under one that an on-policy row has held since before this update of the tracker."""
        count = len(visit)  # rows that are not certain write to an extra entry, which is cut off
        return torch.cat([visit, visit[:1]]).index_fill(0, torch.where(certain, region, count), 1.0)[:count]

    def _batch(self, plan: Planned, state: State) -> Batch:
        rows = self._slice
        timestep, null = plan.timestep[rows], plan.null[rows]
        clean, noise = self._inputs(plan, state)
        condition = {name: self._or_null(null, name, value) for name, value in plan.fetch.result().items()}
        condition |= {} if plan.guidance is None else {GUIDANCE: plan.guidance[rows]}
        return Batch(
            clean=clean,
            noise=noise,
            noisy=self.schedule.add_noise(clean, noise, timestep),
            timestep=timestep,
            condition=condition,
            index=plan.index[rows],
            region=plan.region[rows],
            weight=plan.weight[rows],
            own=~(plan.replaced | plan.null)[rows],
            null=null,
            on_policy=torch.zeros_like(null) if self._rows is None else self._rows.mask[rows],
            visit=plan.visit,
        )

    def _inputs(self, plan: Planned, state: State) -> tuple[Tensor, Tensor]:
        """(B, …) images and noise of this step: training images and random noise, or the student's own estimates."""
        if self._rows is None or plan.held is None or state.estimate is None:
            return plan.clean, plan.noise
        continued = (self._rows.mask & ~plan.held.begins)[self._slice].view(-1, *(1,) * (plan.clean.ndim - 1))
        clean, noise = state.estimate
        return torch.where(continued, clean, plan.clean), torch.where(continued, noise, plan.noise)

    def _or_null(self, null: Tensor, name: str, value: Tensor) -> Tensor:
        return torch.where(null.view(-1, *(1,) * (value.ndim - 1)), self._null[name].to(value), value)

    def _image_rows(self, step: int) -> Tensor:
        """(total,) images of one step; every epoch is a new permutation, and a step may span several epochs."""
        count, first, last = len(self.images), step * self.total, (step + 1) * self.total
        epochs = range(first // count, (last - 1) // count + 1)
        return torch.cat([self._order(epoch)[max(first - epoch * count, 0) : last - epoch * count] for epoch in epochs])

    # State --------------------------------------------------------------------------------------------------------

    def pack(self, state: State, gather: Callable[[Tensor], Tensor] = lambda part: part) -> dict[str, Tensor]:
        """The state as tensors; ``gather`` concatenates the parts of all ranks. Collective: every rank calls it."""
        packed: dict[str, Tensor] = {}
        for place, plan in enumerate(state.planned):
            draw = plan.draw
            parts = {"region": draw.region, "index": draw.index, "weight": draw.weight, "step": torch.tensor(draw.step)}
            parts |= {} if draw.visit is None else {"visit": draw.visit}
            parts |= {f"coords.{name}": value for name, value in draw.coords.items()}
            packed |= {f"{place}.{name}": value for name, value in parts.items()}
        if state.held is not None and state.estimate is not None:
            packed |= {f"held.{name}": value for name, value in state.held._asdict().items()}
            packed |= {f"estimate.{name}": gather(value) for name, value in zip(("clean", "noise"), state.estimate)}
        return packed

    def unpack(self, packed: Mapping[str, Tensor]) -> State:
        """The inverse of :meth:`pack`: this rank keeps its part of the gathered tensors."""
        tensors = {name: value.to(self.device) for name, value in packed.items()}
        held, estimate = (checkpoint.under(f"{prefix}.", tensors) for prefix in ("held", "estimate"))
        state = State()
        if held:
            state = State((), Held(**held), (estimate["clean"][self._slice], estimate["noise"][self._slice]))
        planned: list[Planned] = []
        for place in sorted({int(name.split(".")[0]) for name in tensors if name[0].isdigit()}):
            part = checkpoint.under(f"{place}.", tensors)
            coords, step = checkpoint.under("coords.", part), int(part["step"])
            regions = self.sampler.num_regions
            draw = Draw(part["region"], part["index"], part["weight"], part.get("visit"), regions, step, coords)
            before = planned[-1].held if planned else state.held
            planned.append(self._plan(draw, self._numbers(step), before))
        return replace(state, planned=tuple(planned))


@dataclass(frozen=True)
class _Orders:
    """Maps an epoch to the (count,) order of its images."""

    seed: int
    count: int

    def __call__(self, epoch: int) -> Tensor:
        return torch.randperm(self.count, generator=torch.Generator().manual_seed(step_seed(self.seed, epoch)))
