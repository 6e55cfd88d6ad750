"""A world in which effort teaches along learning curves, with the shipped sampler deciding where effort goes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from aria import Pool, Sampler
from aria.interfaces import Allocator, Partition
from aria.partitioners import Labels
from aria.trackers import EMA
from theory.assumptions import Array

RATE, NOISE = 0.2, 0.3
"""Rate of the tracker, and relative standard deviation of one observation."""


def log_normal(count: int, spread: float) -> Array:
    """(count,) quantiles of a log-normal distribution, whose logarithms have the standard deviation ``spread``."""
    from scipy.special import ndtri

    logs = ndtri((np.arange(count) + 0.5) / count)
    return np.asarray(np.exp(spread * logs / logs.std()))


@dataclass(frozen=True)
class LearningCurves:
    """Regions whose discrepancy is L = c·n^(−α) at effort n, of which a share τ teaches all regions alike."""

    sizes: tuple[int, ...]
    """Number of conditions in each region: their share of the pool is the mass."""
    hard: tuple[float, ...]
    """Difficulties c."""
    exponent: float = 0.5
    transfer: float = 0.0
    misled: bool = False
    """Whether the first region looks by far the worst, whatever its discrepancy."""
    batch: int = 128
    steps: int = 240

    @cached_property
    def mass(self) -> Array:
        """(K,) shares of the pool."""
        return np.array(self.sizes) / sum(self.sizes)

    def discrepancy(self, effort: Array) -> Array:
        """(K,) discrepancies after this effort in each region."""
        learned = (1 - self.transfer) * effort + self.transfer * self.mass * effort.sum()
        return np.asarray(np.array(self.hard) * learned**-self.exponent)

    def left(self, allocator: Allocator, seed: int, floor: float = 0.0) -> float:
        """The mean discrepancy after training, over that after the same effort spent by mass.

        One batch is spent by mass before the sampler begins.
        """
        sampler = Sampler(self._partition, EMA(RATE), allocator, floor=floor, correction="none", seed=seed)
        generator, effort = np.random.default_rng(seed), self.batch * self.mass
        for _ in range(self.steps):
            drawn = sampler.draw(self.batch).region
            region = drawn.numpy()
            seen = np.where((region == 0) & self.misled, 100.0, self.discrepancy(effort)[region])
            noise = (1 + NOISE * generator.standard_normal(self.batch)).clip(0.01)
            sampler.observe(drawn, torch.from_numpy(seen * noise))
            effort = effort + np.bincount(region, minlength=len(self.sizes))
        equal = self.discrepancy(effort.sum() * self.mass)
        return float((self.mass * self.discrepancy(effort)).sum() / (self.mass * equal).sum())

    @cached_property
    def _partition(self) -> Partition:
        names = [name for name, size in enumerate(self.sizes) for _ in range(size)]
        return Labels("region").fit(Pool(columns={"region": names}))
