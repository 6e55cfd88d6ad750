"""A small student: a residual network modulated by its condition and the noise level."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from aria.distill.models.schedule import NoiseSchedule


class FilmMLP(nn.Module):
    r"""Predicts the noise of a flattened image. Condition and timestep set a scale and a shift in every block
    (E. Perez et al., "FiLM: Visual reasoning with a general conditioning layer", AAAI 2018).

    The network computes the velocity :math:`v`, and its output is :math:`\epsilon = \sigma_t x_t + \alpha_t v`: at high
    noise levels a narrow network need not copy its input.

    >>> schedule = NoiseSchedule(torch.tensor([1.0, 0.8, 0.6]), torch.tensor([0.0, 0.6, 0.8]))
    >>> model = FilmMLP(64, 36, 48, schedule)
    >>> model(torch.zeros(2, 1, 8, 8), torch.tensor([1, 2]), torch.zeros(2, 3, 12)).shape
    torch.Size([2, 1, 8, 8])
    """

    alpha: Tensor
    sigma: Tensor

    def __init__(
        self,
        pixels: int,
        tokens: int,
        width: int,
        schedule: NoiseSchedule,
        *,
        blocks: int = 3,
        times: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.times = times
        self.register_buffer("alpha", schedule.alpha.clone(), persistent=False)
        self.register_buffer("sigma", schedule.sigma.clone(), persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.enter = nn.Linear(pixels, width)
            self.embed = nn.Sequential(nn.Linear(tokens + times, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
            self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
            self.leave = nn.Linear(width, pixels)

    def forward(self, noisy: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        """(B, …) noise."""
        half = self.times // 2
        rate = torch.exp(-math.log(1e4) / half * torch.arange(half, device=noisy.device))
        angle = timestep[:, None].float() * rate
        embedding = self.embed(torch.cat([tokens.flatten(1), angle.sin(), angle.cos()], 1))
        x = self.enter(noisy.flatten(1))
        for block in self.blocks:
            x = x + block(x, embedding)
        velocity: Tensor = self.leave(x).view_as(noisy)
        shape = (-1,) + (1,) * (noisy.ndim - 1)
        return self.sigma[timestep].view(shape) * noisy + self.alpha[timestep].view(shape) * velocity


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.steer = nn.Linear(width, 2 * width)
        self.first, self.second = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.steer(embedding).chunk(2, -1)
        y: Tensor = self.second(nn.functional.silu(self.first(self.norm(x) * (1 + scale) + shift)))
        return y
