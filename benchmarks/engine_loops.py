"""The candidates of ``engine.py``: ARIA's engine, and the training loop that one would write by hand.

The hand-written loop does what public training scripts usually do: it encodes text and images at every step, chooses
each sample's condition in Python, reads the value of the loss at every step, creates AdamW without options and uses
diffusers' moving average. ``cached=True`` differs only in encoding everything beforehand.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from engine_world import PROMPTS, World
from torch import Tensor, nn
from torch.nn import functional

from aria.distill.data.memory import EncodingsInMemory, LatentsInMemory
from aria.distill.engine.distiller import Distiller
from aria.distill.engine.learner import compile_blocks
from aria.distill.engine.plan import Plan
from aria.distill.models.denoisers.stable_diffusion import StableDiffusion
from aria.distill.models.schedule import NoiseSchedule
from aria.distill.settings.config import AdamW
from aria.distill.teachers.teacher import Teacher

RATE, DECAY, NULL, STEEPNESS = 5e-5, 0.9999, 0.1, 5.0
ENCODED = 8
"""Number of images that the autoencoder encodes at once: with 64 of 512 × 512 pixels one layer has 2³¹ values."""


def accelerator(world: World) -> Accelerator:
    return Accelerator(mixed_precision=world.preset.precision, cpu=world.device.type == "cpu")


def engine(world: World, *, compiled: bool = False) -> Distiller:
    """ARIA's engine with its default loss: output and feature terms."""
    latents, embeds = world.encoded()
    teacher = Teacher(
        copy.deepcopy(world.teacher), StableDiffusion(), NoiseSchedule.of(world.scheduler), "epsilon", component="unet"
    )
    return Distiller(
        teacher,
        world.student(),
        world.sampler(),
        LatentsInMemory(latents, world.own),
        EncodingsInMemory({"prompt_embeds": embeds[:-1]}, {"prompt_embeds": embeds[-1:]}),
        Plan(
            objective=("output", "feature"),  # type: ignore[arg-type]
            layers=world.pairs,
            optimiser=AdamW(learning_rate=RATE),
            batch_size=world.preset.batch,
            ema_decay=DECAY,
            compile=compiled,
        ),
        accelerator=accelerator(world),
    )


class ByHand:
    """A hand-written training loop."""

    def __init__(self, world: World, *, cached: bool, compiled: bool = False) -> None:
        self.world, self.cached, self.teacher = world, cached, copy.deepcopy(world.teacher)
        self.accelerator = accelerator(world)
        self.device, self.dtype = world.device, world.preset.dtype
        student = world.student().train()
        if compiled:
            compile_blocks(student, self.teacher)
        self.seen: dict[str, Tensor] = {}
        for role, model, names in (("t", self.teacher, 0), ("s", student, 1)):
            for pair in world.pairs:
                layer = model.get_submodule(pair[names])
                layer.register_forward_hook(self._keep(f"{role}.{pair[names]}"))
        optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=1e-2)
        self.ema = EMAModel(student.parameters(), decay=DECAY)
        schedule = get_scheduler("constant", optimizer)
        self.student, self.optimizer, self.schedule = self.accelerator.prepare(student, optimizer, schedule)
        if cached:
            latents, embeds = world.encoded()
            self.latents, self.embeds = latents.cpu(), embeds.cpu()
        self.random, self.losses = random.Random(0), {"output": 0.0, "feature": 0.0}

    def _keep(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self.seen[name] = output[0] if isinstance(output, tuple) else output

        return hook

    def step(self) -> None:
        world, batch = self.world, self.world.preset.batch
        rows = [self.random.randrange(len(world.own)) for _ in range(batch)]
        timesteps = torch.randint(0, 1000, (batch,), device=self.device).long()
        prompts = [self._prompt(row, timesteps[place].item()) for place, row in enumerate(rows)]
        latents, embeds = self._cached(rows, prompts) if self.cached else self._encoded(rows, prompts)
        noise = torch.randn_like(latents)
        noisy = world.scheduler.add_noise(latents, noise, timesteps)
        with torch.no_grad():
            target = self.teacher(noisy.to(self.dtype), timesteps, embeds.to(self.dtype)).sample
        predicted = self.student(noisy, timesteps, embeds).sample
        output = functional.mse_loss(predicted.float(), target.float(), reduction="mean")
        feature = torch.zeros((), device=self.device)
        for teacher, student in world.pairs:
            found, wanted = self.seen[f"s.{student}"], self.seen[f"t.{teacher}"]
            feature = feature + functional.mse_loss(found.float(), wanted.detach().float(), reduction="mean")
        for name, value in (("output", output), ("feature", feature)):
            self.losses[name] += self.accelerator.gather(value.repeat(batch)).mean().item()
        self.accelerator.backward(output + feature)
        self.accelerator.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.ema.step(self.student.parameters())
        self.seen.clear()  # else features would stay in memory while other candidates run

    def _prompt(self, row: int, timestep: float) -> int:
        """Random conditioning for one sample."""
        prompt = int(self.world.own[row])
        if self.random.random() < math.exp(-STEEPNESS * (1 - timestep / 1000)):
            prompt = self.random.randrange(PROMPTS)
        return PROMPTS if self.random.random() < NULL else prompt

    def _encoded(self, rows: list[int], prompts: list[int]) -> tuple[Tensor, Tensor]:
        world = self.world
        with torch.no_grad():
            pixels = torch.stack([world.pixels[row] for row in rows]).to(self.device, self.dtype)
            latents = torch.cat([world.vae.encode(some).latent_dist.sample().float() for some in pixels.split(ENCODED)])
            latents *= world.vae.config.scaling_factor
            ids = torch.stack([world.ids[prompt] for prompt in prompts]).to(self.device)
            return latents, world.text(ids)[0]

    def _cached(self, rows: list[int], prompts: list[int]) -> tuple[Tensor, Tensor]:
        latents = torch.stack([self.latents[row] for row in rows]).to(self.device)
        return latents, torch.stack([self.embeds[prompt] for prompt in prompts]).to(self.device)


CANDIDATES: dict[str, Callable[[World], Any]] = {
    "engine": engine,
    "by hand": lambda world: ByHand(world, cached=False),
    "by hand, cached": lambda world: ByHand(world, cached=True),
}
COMPILED: dict[str, Callable[[World], Any]] = {
    "engine, compiled": lambda world: engine(world, compiled=True),
    "by hand, cached, compiled": lambda world: ByHand(world, cached=True, compiled=True),
}
