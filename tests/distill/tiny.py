"""A distillation small enough to run hundreds of steps in a test: two hand-made models of a few hundred weights."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

import aria
from aria.distill.data.memory import EncodingsInMemory, LatentsInMemory
from aria.distill.engine.distiller import Distiller
from aria.distill.models.denoisers import Condition
from aria.distill.models.schedule import NoiseSchedule
from aria.distill.teachers.teacher import Teacher

CHANNELS, SIDE, WIDTH = 2, 4, 3
TIMESTEPS = 20


class Net(nn.Module):
    """Three layers that are told a timestep and a condition."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.inp = nn.Conv2d(CHANNELS, width, 3, padding=1)
        self.told = nn.Linear(WIDTH, width)
        self.level = nn.Linear(1, width)
        self.mid = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, CHANNELS, 3, padding=1)

    def forward(self, noisy: Tensor, timestep: Tensor, told: Tensor) -> Tensor:
        shift = self.told(told) + self.level(timestep[:, None].to(noisy) / TIMESTEPS)
        hidden = torch.tanh(self.inp(noisy) + shift[:, :, None, None])
        output: Tensor = self.out(torch.tanh(self.mid(hidden)))
        return output


def ask(model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
    """Nothing of diffusers; the condition is two tensors, of which the model is told their sum."""
    told = condition["embeds"] + condition["pooled"][:, None]
    output: Tensor = model(noisy, timestep, told.to(noisy.dtype))
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
    pool = aria.Pool(columns={"label": [row % regions for row in range(conditions)]})
    told = {"tracker": "bank", "allocator": "pool", "floor": 0.2, "seed": 1}
    return aria.Sampler(aria.partitioners.Labels("label").fit(pool), **(told | settings))


def net(seed: int, width: int = 6) -> Net:
    torch.manual_seed(seed)
    return Net(width)


def make(conditions: int = 12, *, width: int = 6, of: dict[str, Any] | None = None, **settings: Any) -> Distiller:
    """A distiller of two small models; ``of`` are the sampler's settings."""
    teacher = Teacher(net(0), ask, schedule(), settings.pop("prediction", "epsilon"))
    pool = numbered(conditions)
    pool.tensors["pooled"] = pool.tensors["pooled"] / conditions
    told: dict[str, Any] = {"batch_size": 8, "steps": 1000, "seed": 3, "accelerator": Accelerator(cpu=True)}
    sampling = settings.pop("sampler", None) or sampler(conditions, **(of or {}))
    latents = settings.pop("images", None) or images(conditions=conditions)
    return Distiller(teacher, net(1, width), sampling, latents, pool, **(told | settings))
