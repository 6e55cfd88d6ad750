"""What allocation is worth when effort teaches along learning curves, for the shipped sampler (T25 to T27)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from aria.allocators import Proportional, TopFraction, Uniform
from aria.interfaces import Allocator
from theory import bounds
from theory.claims.base import Check, Claim, Experiment, Trial
from theory.claims.common import using, wrong
from theory.learning_curves import LearningCurves
from theory.regimes import Gaussian, Regime
from theory.verdict import Interval, mean_interval

SIZES = (1, 2, 4, 8) * 2
HARD = tuple(float(x) for x in np.exp([1.5, -1.0, 0.5, 0.0, -0.5, 1.0, -1.5, 0.7]))


@dataclass(frozen=True)
class Trained(Experiment):
    """``left``: the mean discrepancy after training, over that after the same effort spent by mass."""

    world: LearningCurves
    floor: float = 0.0
    replicas: int = 8

    def measure(self, subject: Allocator, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        runs = max(trial.count(self.replicas), 4)
        left = [self.world.left(subject, trial.seed + run, self.floor) for run in range(runs)]
        return {"left": mean_interval(torch.tensor(left, dtype=torch.float64), trial.alarm)}


def _claims() -> list[Claim]:
    regime, world = Regime(noise=Gaussian(0.0), level=HARD), LearningCurves(SIZES, HARD)
    mass, a, level = world.mass, world.exponent, world.discrepancy(world.mass)
    least = 1 - float(bounds.worth(mass, level, a))
    claims = [
        Claim("T25, T26", "eight learning curves", regime, Proportional(), Trained(world), (
            Check("left", "at most", 1.01 * least), Check("left", "above", 0.999 * least),
        ), (
            wrong("an exponent of 1", "left", 1 - float(bounds.worth(mass, level, 1.0)), "at most"),
            wrong("2 % more", "left", 1.02 * least, "above"), using("equal shares", Uniform()),
            using("the square", Proportional(power=2.0)),
        )),
    ]  # fmt: skip
    for transfer in (0.5, 0.9):
        settled = bounds.settled_effort(mass, level, a, transfer=transfer)
        left = float(bounds.effort_left(mass, level, settled, a, transfer=transfer))
        best = 1 - float(bounds.worth(mass, level, a, transfer=transfer))
        claims.append(
            Claim("T27", f"a share {transfer:g} teaches all", regime, Proportional(), Trained(
                LearningCurves(SIZES, HARD, transfer=transfer)
            ), (
                Check("left", "at most", left + 0.1 * (1 - left)), Check("left", "above", left - 0.1 * (1 - left)),
            ), (wrong("the best", "left", best, "at most"), using("equal shares", Uniform())))
        )  # fmt: skip
    gate = 0.5
    lost = 1 + float(bounds.gate_loss(gate, a))
    claims.append(
        Claim("T25", "half of the effort on nothing", regime, TopFraction(0.125), Trained(
            LearningCurves(SIZES, (0.0, *HARD[1:]), misled=True), floor=1 - gate
        ), (Check("left", "at most", lost), Check("left", "above", 0.96 * lost)), (
            wrong("the gate itself", "left", 1 + gate, "above"), wrong("no loss", "left", 1.0, "at most"),
            using("by mass", Proportional(power=0.0)),
        ))
    )  # fmt: skip
    return claims


CLAIMS = tuple(_claims())
