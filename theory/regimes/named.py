"""The regimes every claim is tried in, by name."""

from __future__ import annotations

from types import MappingProxyType

from theory.regimes import drift, noise, visits
from theory.regimes.regime import Regime

RATE = 0.1
"""The EMA rate that the adversaries among the named regimes play against."""
FLOOR = RATE / (2 - RATE)
"""Its stationary variance in units of the noise."""

NAMED = MappingProxyType(
    {
        "stationary": Regime(),
        "linear": Regime(drift.Linear(0.05)),
        "sinusoid": Regime(drift.Sinusoid(amplitude=1.0, frequency=0.05)),
        "decay": Regime(drift.Decay(size=5.0, ratio=0.98)),
        "jump": Regime(drift.Jump(size=3.0, at=200)),
        "jumps": Regime(drift.Jumps(size=1.0, chance=0.01)),
        "random-walk": Regime(drift.RandomWalk(0.05)),
        "gaussian-walk": Regime(drift.RandomWalk(0.05, gaussian=True)),
        "reflected-walk": Regime(drift.ReflectedWalk(0.05, width=0.5)),
        "rademacher": Regime(drift.Linear(0.05), noise.Rademacher()),
        "heteroscedastic": Regime(noise=noise.Heteroscedastic()),
        "student": Regime(noise=noise.StudentT()),
        "sparse": Regime(noise=noise.Sparse()),
        "asynchronous": Regime(drift.Linear(0.01), visits=visits.Bernoulli(0.2)),
        "batches": Regime(drift.Linear(0.01), visits=visits.Binomial(8, share=0.05)),
        "sign-adversary": Regime(drift.SignAdversary(0.05)),
        "two-point-adversary": Regime(drift.SignAdversary(0.05), noise.TwoPoint(rate=RATE)),
        "selective": Regime(noise=noise.Sparse(chance=0.001), visits=visits.Selective(FLOOR**0.5, probability=0.1)),
        "effort-coupled": Regime(drift.EffortCoupled(0.05), visits=visits.Selective(FLOOR**0.5, probability=0.1)),
        "closed-loop": Regime(
            drift.ClosedLoop(0.02), noise.Gaussian(0.2), visits.Allocated(batch=2), level=(1.0, 2.0, 4.0, 8.0)
        ),
    }
)
