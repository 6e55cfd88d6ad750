"""Regimes: how the truth moves, what noise is added, and when it is observed. To add a part, export its class here."""

from theory.regimes.base import Drift, Noise, Past, Path, Process, Seen, Visits
from theory.regimes.conformance import check_process
from theory.regimes.drift import (
    ClosedLoop,
    Decay,
    EffortCoupled,
    Jump,
    Jumps,
    Linear,
    RandomWalk,
    ReflectedWalk,
    SignAdversary,
    Sinusoid,
    Stationary,
)
from theory.regimes.named import DESCRIBED, NAMED
from theory.regimes.noise import Gaussian, Heteroscedastic, Rademacher, Sparse, StudentT, TwoPoint
from theory.regimes.randomness import Random
from theory.regimes.regime import Regime
from theory.regimes.visits import Allocated, Bernoulli, Binomial, EveryStep, Selective

__all__ = [
    "DESCRIBED",
    "NAMED",
    "Allocated",
    "Bernoulli",
    "Binomial",
    "ClosedLoop",
    "Decay",
    "Drift",
    "EffortCoupled",
    "EveryStep",
    "Gaussian",
    "Heteroscedastic",
    "Jump",
    "Jumps",
    "Linear",
    "Noise",
    "Past",
    "Path",
    "Process",
    "Rademacher",
    "Random",
    "RandomWalk",
    "ReflectedWalk",
    "Regime",
    "Seen",
    "Selective",
    "SignAdversary",
    "Sinusoid",
    "Sparse",
    "Stationary",
    "StudentT",
    "TwoPoint",
    "Visits",
    "check_process",
]
