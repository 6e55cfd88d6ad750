"""Regimes: how the truth moves, what hides it, what is seen of it. Exporting a class here is all a new one takes."""

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
from theory.regimes.named import NAMED
from theory.regimes.noise import Gaussian, Heteroscedastic, Rademacher, Sparse, StudentT, TwoPoint
from theory.regimes.randomness import Random
from theory.regimes.regime import Regime
from theory.regimes.visits import Allocated, Bernoulli, Binomial, EveryStep, Selective

__all__ = [
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
