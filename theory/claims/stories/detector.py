"""A detector of jumps: a fast and a slow average of the same observations, which should not differ much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aria.interfaces import Tracker
from aria.trackers import EMA
from theory import bounds
from theory.claims.base import Check, Claim, Experiment, Mutant, Trial
from theory.claims.common import using, wrong
from theory.claims.probes import Apart
from theory.regimes import Gaussian, Jump, Linear, Regime, SignAdversary
from theory.simulate import simulate
from theory.verdict import Interval, mean_interval, proportion_interval, variance_interval

FAST, SLOW = 0.1, 0.02
DRIFT, DELTA, STEPS = 0.002, 0.01, 600
THRESHOLD = float(bounds.detector_threshold(FAST, SLOW, 1.0, DRIFT, DELTA, STEPS))


@dataclass(frozen=True)
class Gap(Experiment):
    """Difference from an EMA of rate ``slow``: its ``mean`` and ``variance``, and the share of ``alarms``."""

    steps: int
    replicas: int
    slow: float = SLOW
    threshold: float = THRESHOLD

    def measure(self, subject: Tracker, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        pair, replicas = Apart(subject, EMA(self.slow)), trial.count(self.replicas)
        found = simulate(pair, regime, steps=self.steps, replicas=replicas, record=("certificate",), seed=trial.seed)
        alarms = int((found["start weight"] > self.threshold).sum())
        return {
            "mean": mean_interval(found["lag"], trial.alarm),
            "variance": variance_interval(found["lag"], trial.alarm),
            "alarms": proportion_interval(alarms, replicas, trial.alarm),
        }


def _alarms() -> list[Claim]:
    fast, before = EMA(FAST), 400
    low = Mutant("half the threshold", experiment=Gap(STEPS, 3000, threshold=THRESHOLD / 2))
    quiet = (Check("alarms", "at most", DELTA),)
    claims = [
        Claim("detector", name, regime, fast, Gap(STEPS, 3000), quiet, (low, using("rate 1/2", EMA(0.5))))
        for name, regime in (
            ("line, false alarms", Regime(Linear(DRIFT))),
            ("sign adversary, false alarms", Regime(SignAdversary(DRIFT))),
        )
    ]  # fmt: skip
    for jump, power in ((1.5, 0.75), (3.0, 0.99)):
        regime = Regime(Jump(jump, at=before))
        claims.append(
            Claim("detector", f"jump of {jump:g}, power", regime, fast, Gap(STEPS, 3000), (
                Check("alarms", "above", power),
            ), (using("as slow as the slow", EMA(SLOW)),))
        )  # fmt: skip
    return claims


def _law() -> Claim:
    """What the detector detects: the gap after a jump, and its variance."""
    jump, before = 2.0, 400
    visits = math.ceil(bounds.detector_best_delay(FAST, SLOW))
    mean = float(bounds.detector_gap(FAST, SLOW, jump, visits))
    variance = float(bounds.detector_variance(FAST, SLOW))
    both = FAST / (2 - FAST) + SLOW / (2 - SLOW)
    return Claim("detector", f"jump of 2, {visits} visits later", Regime(Jump(jump, at=before), Gaussian()), EMA(FAST),
                 Gap(before - 1 + visits, 10_000), (
        Check("mean", "equal", mean), Check("variance", "equal", variance),
    ), (
        wrong("10 visits later", "mean", float(bounds.detector_gap(FAST, SLOW, jump, visits + 10))),
        wrong("fast one alone", "mean", jump * (1 - (1 - FAST) ** visits)),
        wrong("independent", "variance", both), using("b·1.2", EMA(1.2 * FAST)),
    ))  # fmt: skip


CLAIMS: tuple[Claim, ...] = (*_alarms(), _law())
