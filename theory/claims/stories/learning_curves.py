"""What allocation is worth when effort teaches along learning curves, for the shipped sampler (T25 to T27).

Regions have difficulties c and the discrepancies L = c·n^(−α) at effort n, of which a share τ teaches all alike.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from aria import Pool, Sampler
from aria.allocators import Proportional, TopFraction, Uniform
from aria.interfaces import Allocator, Partition
from aria.partitioners import Labels
from aria.trackers import EMA
from theory import bounds
from theory.assumptions import Array
from theory.claims.base import Check, Claim, Experiment, Trial
from theory.claims.common import using, wrong
from theory.regimes import Gaussian, Regime
from theory.verdict import Interval, mean_interval

SIZES = (1, 2, 4, 8) * 2
"""Conditions in each region."""
MASS = np.array(SIZES) / sum(SIZES)
HARD = np.exp(np.array([1.5, -1.0, 0.5, 0.0, -0.5, 1.0, -1.5, 0.7]))
"""Difficulties of the regions."""
EXPONENT, BATCH, STEPS = 0.5, 128, 240
FIRST = BATCH
"""Effort before the first step, spent by mass."""
NOISE = 0.3
"""Relative standard deviation of one observation."""


@functools.cache
def _partition() -> Partition:
    return Labels("region").fit(
        Pool(columns={"region": [name for name, size in enumerate(SIZES) for _ in range(size)]})
    )


@dataclass(frozen=True)
class Trained(Experiment):
    """``left``: the mean discrepancy after training, over that after the same effort spent by mass."""

    difficulties: tuple[float, ...]
    transfer: float = 0.0
    floor: float = 0.0
    misled: bool = False
    """Whether the first region looks by far the worst, whatever its discrepancy."""
    replicas: int = 8

    def measure(self, subject: Allocator, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        runs = [self._run(subject, trial.seed + run) for run in range(max(trial.count(self.replicas), 4))]
        return {"left": mean_interval(torch.tensor(runs, dtype=torch.float64), trial.alarm)}

    def _run(self, subject: Allocator, seed: int) -> float:
        sampler = Sampler(_partition(), EMA(rate=0.2), subject, floor=self.floor, correction="none", seed=seed)
        generator = np.random.default_rng(seed)
        hard, effort = np.array(self.difficulties), FIRST * MASS
        for _ in range(STEPS):
            region = sampler.draw(BATCH).region
            seen = self._discrepancy(hard, effort)[region.numpy()]
            seen = np.where((region.numpy() == 0) & self.misled, 100.0, seen)
            seen = seen * (1 + NOISE * generator.standard_normal(BATCH)).clip(0.01)
            sampler.observe(region, torch.from_numpy(seen))
            effort = effort + np.bincount(region.numpy(), minlength=len(MASS))
        equal = self._discrepancy(hard, effort.sum() * MASS)
        return float((MASS * self._discrepancy(hard, effort)).sum() / (MASS * equal).sum())

    def _discrepancy(self, hard: Array, effort: Array) -> Array:
        learned = (1 - self.transfer) * effort + self.transfer * MASS * effort.sum()
        return np.asarray(hard * learned**-EXPONENT)


def _claims() -> list[Claim]:
    regime = Regime(noise=Gaussian(0.0), level=tuple(float(x) for x in HARD))
    level = HARD * MASS**-EXPONENT
    least = 1 - float(bounds.worth(MASS, level, EXPONENT))
    hard = tuple(float(x) for x in HARD)
    claims = [
        Claim("T25, T26", "eight learning curves", regime, Proportional(), Trained(hard), (
            Check("left", "at most", 1.01 * least), Check("left", "above", least),
        ), (
            wrong("an exponent of 1", "left", 1 - float(bounds.worth(MASS, level, 1.0)), "at most"),
            wrong("2 % more", "left", 1.02 * least, "above"), using("equal shares", Uniform()),
            using("the square", Proportional(power=2.0)),
        )),
    ]  # fmt: skip
    for transfer in (0.5, 0.9):
        settled = bounds.settled_effort(MASS, level, EXPONENT, transfer=transfer)
        left = float(bounds.effort_left(MASS, level, settled, EXPONENT, transfer=transfer))
        best = 1 - float(bounds.worth(MASS, level, EXPONENT, transfer=transfer))
        claims.append(
            Claim("T27", f"a share {transfer:g} teaches all", regime, Proportional(), Trained(hard, transfer), (
                Check("left", "at most", left + 0.1 * (1 - left)), Check("left", "above", left - 0.1 * (1 - left)),
            ), (wrong("the best", "left", best, "at most"), using("equal shares", Uniform())))
        )  # fmt: skip
    gate, nothing = 0.5, (0.0, *hard[1:])
    lost = 1 + float(bounds.gate_loss(gate, EXPONENT))
    claims.append(
        Claim("T25", "half of the effort on nothing", regime, TopFraction(0.125), Trained(
            nothing, floor=1 - gate, misled=True
        ), (Check("left", "at most", lost), Check("left", "above", 0.96 * lost)), (
            wrong("the gate itself", "left", 1 + gate, "above"), wrong("no loss", "left", 1.0, "at most"),
            using("by mass", Proportional(power=0.0)),
        ))
    )  # fmt: skip
    return claims


CLAIMS = tuple(_claims())
