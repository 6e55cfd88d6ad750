"""A hand-written sampler with the arithmetic of an EMA tracker, a proportional allocator and a stratified draw.

One fixed rule without checks, plug-ins or saving; every buffer is allocated once and reused.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Bare:
    """EMA with standard error and certificate, proportional with floor, systematic draws, conditions within regions."""

    def __init__(self, num_regions: int, device: str, rate: float = 0.1, floor: float = 0.2) -> None:
        def buffer(rows: int) -> list[Tensor]:
            return list(torch.zeros(rows, num_regions, dtype=torch.float64, device=device).unbind())

        self.rate, self.floor = rate, floor
        self.value, self.square, self.lag, self.noise, self.weight = buffer(5)
        self.mass = torch.full_like(self.value, 1 / num_regions)
        self.floored = floor * self.mass
        self.sums = torch.zeros(3, num_regions, dtype=torch.float64, device=device)
        self.a, self.b, self.c, self.gain, self.probs, self.cdf = buffer(6)
        self.one = torch.ones((), dtype=torch.float64, device=device)
        self.order = torch.arange(num_regions, device=device)
        self.offset, self.size = self.order.clone(), torch.ones_like(self.mass)
        self.generator = torch.Generator(device)
        self.step = 0

    def draw(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Regions, conditions and weights, (B,) each."""
        a, b, c = self.a, self.b, self.c
        # standard error, inf where unseen
        torch.mul(self.noise, self.value, out=a)
        torch.addcmul(self.square, self.value, self.value, value=-1, out=b)
        b.addcmul_(a, a).mul_(self.noise).clamp_(min=1e-300)
        torch.rsqrt(b, out=a)
        a.mul_(b).div_(torch.sign(self.noise, out=c))
        # proportional to the value; regions never observed get the largest
        torch.add(self.value, a, alpha=0.0, out=b)
        torch.nan_to_num(b, nan=0.0, out=c)
        b.div_(c.amax()).nan_to_num_(nan=1.0).mul_(self.mass)
        torch.addcdiv(self.floored, b, b.sum(), value=1 - self.floor, out=self.probs)
        torch.cumsum(self.probs, 0, out=self.cdf)
        # systematic draw, then one condition of each region
        self.generator.manual_seed(self.step)
        self.step += 1
        device = self.cdf.device
        offset = torch.rand(1, generator=self.generator, dtype=torch.float64, device=device)
        points = torch.arange(n, dtype=torch.float64, device=device).add_(offset).mul_(self.cdf[-1] / n)
        region = torch.searchsorted(self.cdf, points, right=True)
        region = region.index_select(0, torch.randperm(n, generator=self.generator, device=device))
        inside = torch.rand(n, generator=self.generator, dtype=torch.float64, device=device)
        place = inside.mul_(self.size.index_select(0, region)).long().add_(self.offset.index_select(0, region))
        index = self.order.index_select(0, place)
        return region, index, torch.ones(n, device=device)

    def observe(self, region: Tensor, signal: Tensor) -> None:
        """Update the EMA and its error bound."""
        a, b, gain = self.a, self.b, self.gain
        signal = signal.double()
        n, total, square = self.sums.zero_().unbind()
        n.index_add_(0, region, self.one.expand_as(signal))
        total.index_add_(0, region, signal)
        square.index_add_(0, region, signal * signal)
        torch.clamp(n, max=1, out=gain).mul_(self.rate)
        self.weight.lerp_(self.one, gain)
        gain.div_(torch.clamp(self.weight, min=self.rate, out=a))
        torch.div(gain, n.clamp_(min=1), out=b)
        torch.sub(self.one, gain, out=a)
        self.value.mul_(a).addcmul_(b, total)
        self.square.mul_(a).addcmul_(b, square)
        self.lag.add_(1).mul_(a)
        self.noise.mul_(a.square_()).addcmul_(gain, b)
