"""A distillation small enough to run hundreds of steps in a test: two hand-made models of a few hundred weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

import aria
from aria.distill.data.memory import EncodingsInMemory, LatentsInMemory
from aria.distill.engine.batch import Batch, Encodings, Images
from aria.distill.engine.batches import Pending, Source, State
from aria.distill.engine.distiller import Distiller
from aria.distill.engine.plan import Plan
from aria.distill.models.denoisers import Condition
from aria.distill.models.schedule import NoiseSchedule
from aria.distill.runs import checkpoint
from aria.distill.teachers.teacher import Teacher

CHANNELS, SIDE, WIDTH = 2, 4, 3
TIMESTEPS = 20


class Net(nn.Module):
    """Three layers, with a timestep and a condition."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.inp = nn.Conv2d(CHANNELS, width, 3, padding=1)
        self.embed = nn.Linear(WIDTH, width)
        self.level = nn.Linear(1, width)
        self.mid = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, CHANNELS, 3, padding=1)

    def forward(self, noisy: Tensor, timestep: Tensor, embeddings: Tensor) -> Tensor:
        shift = self.embed(embeddings) + self.level(timestep[:, None].to(noisy) / TIMESTEPS)
        hidden = torch.tanh(self.inp(noisy) + shift[:, :, None, None])
        output: Tensor = self.out(torch.tanh(self.mid(hidden)))
        return output


def evaluate(model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
    """Nothing of diffusers; the condition is two tensors, and the model is given their sum."""
    embeddings = condition["embeds"] + condition["pooled"][:, None]
    output: Tensor = model(noisy, timestep, embeddings.to(noisy.dtype))
    return output


def numbered(count: int) -> EncodingsInMemory:
    """A pool whose row i holds the number i, so that a batch shows which conditions it has."""
    rows = torch.arange(count).float()
    embeds = torch.stack([rows / count, torch.sin(rows), torch.cos(rows)], 1)
    null = {"embeds": torch.full((1, WIDTH), -7.0), "pooled": torch.full((1,), -1.0)}
    return EncodingsInMemory({"embeds": embeds, "pooled": rows}, null)


def shown(latents: Tensor, conditions: int) -> LatentsInMemory:
    """Image i shows condition i modulo the number of conditions."""
    return LatentsInMemory(latents, torch.arange(len(latents)) % conditions)


def schedule(timesteps: int = TIMESTEPS) -> NoiseSchedule:
    """A cosine schedule with some signal and some noise everywhere."""
    angle = (torch.arange(timesteps) + 0.5) / timesteps * torch.pi / 2
    return NoiseSchedule(angle.cos(), angle.sin())


def images(count: int = 10, conditions: int = 12) -> LatentsInMemory:
    clean = torch.randn(count, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    return shown(clean, conditions)


def sampler(conditions: int = 12, regions: int = 3, **settings: Any) -> aria.Sampler:
    return sampler_of("labels('label')", conditions, regions, **settings)


def sampler_of(partitioner: str, conditions: int = 12, regions: int = 3, **settings: Any) -> aria.Sampler:
    """A sampler over the regions that a partitioner makes of conditions with so many labels."""
    pool = aria.Pool(columns={"label": [row % regions for row in range(conditions)]})
    defaults = {"tracker": "bank", "allocator": "pool", "floor": 0.2, "seed": 1}
    return aria.Sampler(aria.registry.partitioner(partitioner).fit(pool), **(defaults | settings))


def net(seed: int, width: int = 6) -> Net:
    torch.manual_seed(seed)
    return Net(width)


def make(conditions: int = 12, *, width: int = 6, of: dict[str, Any] | None = None, **settings: Any) -> Distiller:
    """A distiller of two small models; ``of`` are the sampler's settings."""
    teacher = Teacher(net(0), evaluate, schedule(), settings.pop("prediction", "epsilon"))
    pool = numbered(conditions)
    pool.tensors["pooled"] = pool.tensors["pooled"] / conditions
    pool.residency = settings.pop("residency", pool.residency)
    sampling = settings.pop("sampler", None) or sampler(conditions, **(of or {}))
    latents = settings.pop("images", None) or images(conditions=conditions)
    accelerator = settings.pop("accelerator", None) or Accelerator(cpu=True)
    plan = Plan(**({"batch_size": 8, "steps": 1000, "seed": 3} | settings))
    return Distiller(teacher, net(1, width), sampling, latents, pool, plan, accelerator=accelerator)


def distiller(
    teacher: Any,
    student: nn.Module,
    sampler: aria.Sampler,
    images: Images,
    pool: Encodings,
    *,
    accelerator: Accelerator | None = None,
    **settings: Any,
) -> Distiller:
    """A distiller whose plan is made of ``settings``."""
    return Distiller(teacher, student, sampler, images, pool, Plan(**settings), accelerator=accelerator)


def save(distiller: Distiller, output: Path, settings: dict[str, Any] | None = None, limit: int | None = None) -> Path:
    """A checkpoint of a distiller."""
    accelerator = distiller.accelerator
    return checkpoint.save(
        distiller.state(), output, distiller.step_count, settings=settings or {}, accelerator=accelerator, limit=limit
    )


class Stream:
    """A source with its state at hand: the next batch each time, continued from the outputs it is given."""

    def __init__(self, source: Source) -> None:
        self.source, self.state = source, State()

    def next(self, output: Callable[[Batch], Tensor] = lambda batch: batch.noisy, prediction: str = "sample") -> Batch:
        batch, pending = self.source.next(self.state)
        self.state = self.source.advance(pending, output(batch), prediction)
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)


def first_batch(distiller: Distiller) -> Batch:
    """The batch of the next step, which stays the next one."""
    counted = distiller.sampler.step
    batch, _ = distiller.source.next(distiller.flow)
    distiller.sampler.step = counted
    return batch


def always(distiller: Distiller, batch: Batch) -> None:
    """Train on this batch repeatedly."""
    distiller.source.next = lambda state: (batch, Pending((), None, batch))  # type: ignore[method-assign]


def recorded(distiller: Distiller) -> list[Batch]:
    """The batches of all steps from now on, in a list that grows."""
    batches: list[Batch] = []
    draw = distiller.source.next

    def next_recorded(state: State) -> tuple[Batch, Pending]:
        drawn = draw(state)
        batches.append(drawn[0])
        return drawn

    distiller.source.next = next_recorded  # type: ignore[method-assign]
    return batches
