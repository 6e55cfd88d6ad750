"""Noise estimated from differences of observations (RICE): what drift adds, and what an adversary can hide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from aria.interfaces import State, Tracker
from aria.trackers import EMA
from theory import bounds
from theory.claims.base import Check, Claim, Experiment, Trial
from theory.claims.common import wrong
from theory.claims.probes import Recent
from theory.regimes import Drift, Gaussian, Linear, Past, Rademacher, Random, RandomWalk, Regime, SignAdversary
from theory.simulate import simulate
from theory.verdict import Interval, mean_interval

D = 0.5
"""The drift: large, so that its effect is visible."""


@dataclass(frozen=True)
class Pursuer(Drift):
    """Moves toward the estimate: the opposite of :class:`~theory.regimes.SignAdversary`."""

    adaptive = True
    size: float

    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor | float, State]:
        return past.error.sign_().mul_(self.size), state

    def bound(self, level: float = 0.0) -> float:
        return self.size


@dataclass(frozen=True)
class Differences(Experiment):
    """Variance of the noise estimated from ``first`` and ``second`` differences of the last observations."""

    steps: int
    replicas: int

    def measure(self, subject: Tracker, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        replicas = trial.count(self.replicas)
        found = simulate(
            Recent(subject), regime, steps=self.steps, replicas=replicas, record=("certificate",), seed=trial.seed
        )
        newest, middle, oldest = (found[name] for name in ("start weight", "lag", "noise"))
        return {
            "first": mean_interval((newest - middle) ** 2 / 2, trial.alarm),
            "second": mean_interval((newest - 2 * middle + oldest) ** 2 / 6, trial.alarm),
        }


def _claims() -> list[Claim]:
    low, high = (float(end) for end in bounds.rice_range(1.0, D, adaptive=False))
    least, most = (float(end) for end in bounds.rice_range(1.0, D))
    # The last estimate of an EMA of rate 1 is the last observation: its error is the noise, known to adaptive drift.
    last, read = EMA(1.0), Differences(5, 100_000)
    no_drift, twice = wrong("no drift", "first", low), wrong("D² for D²/2", "first", 1 + D**2)
    return [
        Claim("RICE", "stationary", Regime(), last, read, (
            Check("first", "equal", low), Check("second", "equal", 1.0),
        ), (wrong("not halved", "first", 2.0), wrong("a fourth", "second", 1.5))),
        Claim("RICE", "line", Regime(Linear(D)), last, read, (
            Check("first", "equal", high), Check("second", "equal", 1.0),
        ), (no_drift, twice, wrong("drift in both", "second", high))),
        Claim("RICE", "random walk", Regime(RandomWalk(D)), last, read, (
            Check("first", "equal", high), Check("second", "equal", 1 + D**2 / 3),
        ), (no_drift, twice)),
        Claim("RICE", "adversary that flees", Regime(SignAdversary(D), Rademacher()), last, read, (
            Check("first", "equal", most), Check("first", "above", high),
        ), (wrong("oblivious range", "first", high), no_drift)),
        Claim("RICE", "adversary that follows", Regime(Pursuer(D), Rademacher()), last, read, (
            Check("first", "equal", least),
        ), (wrong("oblivious range", "first", low), wrong("as it flees", "first", most))),
        Claim("RICE", "adversary that follows, normal noise", Regime(Pursuer(D), Gaussian()), last, read, (
            Check("first", "at most", low), Check("first", "above", least),
        ), (wrong("least attained", "first", least, "at most"), wrong("oblivious range", "first", low, "above"))),
    ]  # fmt: skip


CLAIMS: tuple[Claim, ...] = tuple(_claims())
