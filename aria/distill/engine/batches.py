r"""What each step trains on: a function of (seed, step), of what the sampler drew, and where rows are on-policy
(:mod:`aria.distill.engine.on_policy`) of what the student answered.

Random conditioning as in D. Kim et al. (CVPR 2025): the next image's latent is noised to a random timestep :math:`t`;
with probability :math:`\pi(t)` it is shown with a condition of the pool instead of its own, and after that with the
null condition with a small probability. Only the pool's conditions are allocated; with the pool's own shares this is
exactly random conditioning, but for on-policy rows.

Every rank makes the numbers of the whole step and takes its slice, so a global batch does not depend on how many ranks
share it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor

from aria import checks
from aria.distill.engine.on_policy import Held, OnPolicy, Rows
from aria.distill.models.denoisers import Condition
from aria.distill.models.denoisers.guidance import GUIDANCE
from aria.distill.models.schedule import NoiseSchedule
from aria.interfaces import Draw
from aria.samplers import Sampler, checkpoint
from aria.samplers.draws import step_seed

_ORDER, _NUMBERS = 0x6F72646572, 0x6E756D62657273
"""Keep the order of the images and the numbers of a step apart from the sampler's draws."""


class Images(Protocol):
    """Latents of images with the position of each one's condition in the pool."""

    def __len__(self) -> int: ...

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, …) latents and (B,) conditions."""
        ...


class Fetch(Protocol):
    """Conditions on their way."""

    def result(self) -> Condition: ...


class Encodings(Protocol):
    """The encoded pool."""

    residency: str

    def __len__(self) -> int: ...

    def null(self, n: int) -> Condition: ...

    def gather(self, index: Tensor) -> Condition: ...

    def prefetch(self, index: Tensor) -> Fetch: ...


@dataclass(frozen=True, eq=False)
class Batch:
    """One rank's share of one step."""

    clean: Tensor
    """(B, …) latents without noise; of an on-policy row that goes on, as the student takes them to be."""
    noise: Tensor
    """(B, …) the noise to add."""
    noisy: Tensor
    """(B, …) the latents both models see."""
    timestep: Tensor
    """(B,) how noisy they are."""
    condition: Condition
    """What both models are told, (B, …) each."""
    index: Tensor
    """(B,) position in the pool of the condition; the replaced one under a null condition."""
    region: Tensor
    """(B,) its region."""
    weight: Tensor
    """(B,) importance weights; all ones unless the sampler corrects."""
    own: Tensor
    """(B,) whether the condition is the image's own, neither replaced nor null."""
    null: Tensor
    """(B,) whether it is the null condition."""

    def parts(self, count: int) -> Iterator[Batch]:
        """The batch in ``count`` equal parts, in order."""
        size = len(self.timestep) // count
        for first in range(0, size * count, size):
            cut = slice(first, first + size)
            told = {name: value[cut] for name, value in self.condition.items()}
            rest = {f.name: getattr(self, f.name)[cut] for f in fields(self) if f.name != "condition"}
            yield replace(self, condition=told, **rest)


@dataclass(frozen=True, eq=False)
class _Plan:
    """A step that is drawn, with its conditions under way."""

    draw: Draw
    clean: Tensor
    noise: Tensor
    timestep: Tensor
    index: Tensor
    replaced: Tensor
    null: Tensor
    guidance: Tensor | None
    held: Held | None = None
    fetch: Fetch | None = None


class Batches:
    """An endless sequence of batches that can be saved and resumed.

    ``ahead`` steps are drawn before they are needed, so that conditions on disk can be read behind the running step.
    The sampler then decides that many steps before its decision is used.
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
            guidance: the least and the largest guidance scale, where conditions shall hold one.
            timesteps: (n,) those that are drawn, if not all.
            on_policy: rows whose images the student makes; :meth:`remember` must then be told every answer.
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
                f"the sampler lives on {sampler.device}, the models on {device}: use partition.to({str(device)!r})"
            )
        self.schedule = schedule.to(self.device)
        self.size, self.ahead, self.null_probability = size, ahead, null_probability
        self.replacement = replacement.to(self.device)  # (T,)
        self._order_seed, self._numbers_seed = step_seed(seed, _ORDER), step_seed(seed, _NUMBERS)
        self._generator = torch.Generator(self.device)
        self.guidance = guidance
        self.timesteps = None if timesteps is None else timesteps.to(self.device)  # (n,)
        self._drawn = self._drawn_coordinates()
        self._orders: dict[int, Tensor | None] = {}
        self._null = {name: value.to(self.device) for name, value in conditions.null(1).items()}
        self._planned: deque[_Plan] = deque()
        self._on_policy = self._own_rows(on_policy)
        self._held: Held | None = None
        self._made: tuple[Tensor, Tensor] | None = None  # (B, …) images and noise of the student's last answer

    def _own_rows(self, settings: OnPolicy | None) -> Rows | None:
        """The rows whose images the student makes; where an answer says next to nothing of the image they do not go."""
        if settings is None or settings.share == 0:
            return None
        if "timestep" in self._drawn or self.timesteps is not None:
            who = "a teacher of some timesteps" if self.timesteps is not None else "a partition that draws timesteps"
            raise ValueError(f"on-policy rows choose their timesteps themselves, so {who} does not go with them")
        rank, ranks = self.sampler.ranks.place()
        mine = slice(self.size * rank, self.size * (rank + 1))
        return Rows(settings, mine, self.size * ranks, self.schedule.telling(), self.device)

    def _drawn_coordinates(self) -> set[str]:
        """What the partition draws beside conditions, of which the engine knows two."""
        some = self.sampler.mass.argmax().view(1)
        drawn = self.sampler.partition.draw(some, self._generator.manual_seed(0)).keys() - {"index"}
        known = {"timestep"} if self.timesteps is None else set()
        known |= set() if self.guidance is None else {GUIDANCE}
        if unknown := sorted(drawn - known):
            may = " and ".join(sorted(known)) or "nothing beside conditions here"
            raise ValueError(f"the partition draws {unknown[0]}, which training does not use; it may draw {may}")
        if GUIDANCE in drawn:
            self._same_scales()
        return drawn

    def _same_scales(self) -> None:
        """Refuse a partition that draws other guidance scales than the run is of."""
        assert self.guidance is not None
        low, high = self.guidance
        partition, generator = self.sampler.partition.to("cpu"), torch.Generator().manual_seed(0)
        drawn = partition.draw(self.sampler.mass.cpu().nonzero().flatten(), generator)
        scales, index = drawn[GUIDANCE], drawn.pop("index")
        if bool(((scales < low) | (scales > high)).any()):
            raise ValueError(f"the partition draws guidance scales outside {low:g} to {high:g}, those of the run")
        for end in (low, high):
            try:
                partition.locate(index, **(drawn | {GUIDANCE: torch.full_like(scales, end)}))
            except ValueError as error:
                raise ValueError(f"the partition leaves out some guidance scales of the run: {error}") from None

    def probe(self) -> Condition:
        """(1, …) a condition as batches have them."""
        scale = {} if self.guidance is None else {GUIDANCE: torch.tensor(self.guidance[:1], device=self.device)}
        return self._null | scale

    def next(self) -> Batch:
        """The next step's batch."""
        while len(self._planned) <= self.ahead:
            self._planned.append(self._plan(self.sampler.draw(self.size)))
        return self._finish(self._planned.popleft())

    def _plan(self, draw: Draw) -> _Plan:
        rank, ranks = self.sampler.ranks.place()
        total, mine = self.size * ranks, slice(self.size * rank, self.size * (rank + 1))
        generator = self._generator.manual_seed(step_seed(self._numbers_seed, draw.step))
        clean, own = self.images.gather(self._rows(draw.step, total)[mine])
        clean, own = clean.to(self.device, non_blocking=True).float(), own.to(self.device, non_blocking=True)

        def rand() -> Tensor:
            return torch.rand(total, generator=generator, device=self.device)[mine]

        levels = len(self.schedule) if self.timesteps is None else len(self.timesteps)
        level = torch.randint(levels, (total,), generator=generator, device=self.device)[mine]
        timestep = draw.coords.get("timestep", level if self.timesteps is None else self.timesteps[level])
        noise = torch.randn((total, *clean.shape[1:]), generator=generator, device=self.device)[mine]
        replaced = rand() < self.replacement[timestep]
        null = rand() < self.null_probability
        index = torch.where(replaced, draw.index, own)
        guidance = None
        if self.guidance is not None:
            low, high = self.guidance
            guidance = draw.coords.get(GUIDANCE, low + (high - low) * rand())
        plan = _Plan(draw, clean, noise, timestep, index, replaced, null, guidance)
        if self._on_policy is not None:
            plan = self._go_on(plan, self._on_policy, offset=rand())
        return replace(plan, fetch=self.conditions.prefetch(plan.index))

    def _go_on(self, plan: _Plan, rows: Rows, offset: Tensor) -> _Plan:
        """The plan with the conditions and timesteps of on-policy rows."""
        before = self._planned[-1].held if self._planned else self._held
        draw, begins = plan.draw, rows.begins(plan.draw.step, before)
        scale = torch.zeros_like(draw.weight) if plan.guidance is None else plan.guidance
        held = rows.carry(Held(begins, draw.index, draw.weight, plan.null, offset, scale), before)
        return replace(
            plan,
            timestep=torch.where(rows.mask, rows.timestep(draw.step, held), plan.timestep),
            index=torch.where(rows.mask, held.condition, plan.index),
            replaced=plan.replaced | rows.mask,
            null=torch.where(rows.mask, held.null, plan.null),
            guidance=None if plan.guidance is None else torch.where(rows.mask, held.guidance, plan.guidance),
            held=held,
        )

    def _finish(self, plan: _Plan) -> Batch:
        clean, noise = self._inputs(plan)
        told = {name: self._or_null(plan.null, name, value) for name, value in _fetched(plan).items()}
        told |= {} if plan.guidance is None else {GUIDANCE: plan.guidance}
        return Batch(
            clean=clean,
            noise=noise,
            noisy=self.schedule.add_noise(clean, noise, plan.timestep),
            timestep=plan.timestep,
            condition=told,
            index=plan.index,
            region=self.sampler.partition.locate(plan.index, **self._coords(plan)),
            weight=self._weight(plan),
            own=~(plan.replaced | plan.null),
            null=plan.null,
        )

    def _inputs(self, plan: _Plan) -> tuple[Tensor, Tensor]:
        """(B, …) images and noise of this step: of the data and at random, and where a row goes on, the student's."""
        if self._on_policy is None or plan.held is None:
            return plan.clean, plan.noise
        if self._held is not None and self._made is None:
            raise RuntimeError("on-policy rows go on from the student's answer: call remember() after every step")
        made, self._made = self._made, None
        first, self._held = self._held is None, plan.held
        if made is None or first:
            return plan.clean, plan.noise
        goes_on = (self._on_policy.mask & ~plan.held.begins).view(-1, *(1,) * (plan.clean.ndim - 1))
        return torch.where(goes_on, made[0], plan.clean), torch.where(goes_on, made[1], plan.noise)

    @property
    def held_for(self) -> int:
        """Steps for which an on-policy row's condition stays after it was drawn."""
        return 0 if self._on_policy is None else self._on_policy.hops - 1

    def remember(self, batch: Batch, output: Tensor, prediction: str) -> None:
        """Take the student's (B, …) answer to the last batch, of this type: on-policy rows go on from there."""
        if self._on_policy is not None:
            told = output.detach().float(), prediction, batch.noisy, batch.timestep
            self._made = self.schedule.clean(*told), self.schedule.noise(*told)

    def _weight(self, plan: _Plan) -> Tensor:
        """(B,) p/q of what the allocation decided: drawn conditions, or every sample where it drew coordinates."""
        weight = plan.draw.weight
        if self._on_policy is not None and plan.held is not None:
            weight = torch.where(self._on_policy.mask, plan.held.weight, weight)
        return weight if self._drawn else torch.where(plan.replaced & ~plan.null, weight, 1.0)

    def _coords(self, plan: _Plan) -> dict[str, Tensor]:
        told = {"timestep": plan.timestep, GUIDANCE: plan.guidance}
        return {name: value for name, value in told.items() if name in self._drawn and value is not None}

    def _or_null(self, null: Tensor, name: str, value: Tensor) -> Tensor:
        return torch.where(null.view(-1, *(1,) * (value.ndim - 1)), self._null[name].to(value), value)

    def _rows(self, step: int, total: int) -> Tensor:
        """(total,) images of one step: every epoch is a new permutation, and a step may span several."""
        count = len(self.images)
        first, last = step * total, (step + 1) * total
        epochs = range(first // count, (last - 1) // count + 1)
        self._orders = {epoch: self._orders.get(epoch) for epoch in epochs}
        parts = []
        for epoch, known in self._orders.items():
            order = known if known is not None else _order(self._order_seed, epoch, count)
            self._orders[epoch] = order
            parts.append(order[max(first - epoch * count, 0) : last - epoch * count])
        return torch.cat(parts)

    def state_dict(self, gather: Callable[[Tensor], Tensor] = lambda mine: mine) -> dict[str, Tensor]:
        """The steps that are drawn and not yet trained on; ``gather`` puts the shares of all ranks together."""
        state: dict[str, Tensor] = {}
        for place, plan in enumerate(self._planned):
            draw = plan.draw
            shares = {"region": draw.region, "index": draw.index, "weight": draw.weight}
            shares |= {f"coords.{name}": value for name, value in draw.coords.items()}
            state |= {f"{place}.{name}": gather(value) for name, value in shares.items()}
            state[f"{place}.step"] = torch.tensor(draw.step)
        if self._held is not None and self._made is not None:
            state |= {f"held.{name}": gather(value) for name, value in self._held._asdict().items()}
            state |= {f"made.{name}": gather(value) for name, value in zip(("clean", "noise"), self._made)}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up the steps that were drawn when the state was saved."""
        self._planned.clear()
        rank, _ = self.sampler.ranks.place()
        mine = slice(self.size * rank, self.size * (rank + 1))
        made, held = (
            {name: value[mine].to(self.device) for name, value in checkpoint.under(f"{prefix}.", state).items()}
            for prefix in ("made", "held")
        )
        self._made = (made["clean"], made["noise"]) if made else None
        self._held = Held(**held) if held else None
        for place in sorted({int(name.split(".")[0]) for name in state if name[0].isdigit()}):
            told = checkpoint.under(f"{place}.", state)
            step = int(told.pop("step"))
            told = {name: value[mine].to(self.device) for name, value in told.items()}
            coords = checkpoint.under("coords.", told)
            draw = Draw(
                told["region"], told["index"], told["weight"], None, self.sampler.num_regions, step, coords
            )
            self._planned.append(self._plan(draw))


def _fetched(plan: _Plan) -> Condition:
    assert plan.fetch is not None
    return plan.fetch.result()


def _order(seed: int, epoch: int, count: int) -> Tensor:
    """(count,) the images in the order of one epoch."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(step_seed(seed, epoch)))
