"""The named regimes: every tracker is tried in them, and ``aria-sim regimes`` lists them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from types import MappingProxyType
from typing import NamedTuple

from aria import registry
from aria.interfaces import Allocator
from theory.regimes import drift, noise, visits
from theory.regimes.base import Process
from theory.regimes.regime import Regime

RATE = 0.1
"""The EMA rate that the adversaries among the named regimes play against."""
FLOOR = RATE / (2 - RATE)
"""Its stationary variance in units of the noise."""


class Named(NamedTuple):
    """A regime and one sentence that says what moves, what the noise is, and when regions are visited."""

    description: str
    regime: Regime

    @property
    def parameters(self) -> dict[str, object]:
        """The class and the arguments of each part, and the level at which the truth starts."""
        parts = {name: _arguments(getattr(self.regime, name)) for name in ("drift", "noise", "visits")}
        return parts | {"level": self.regime.level}

    @property
    def parts(self) -> str:
        """The parts as one would construct them.

        >>> DESCRIBED["jumps"].parts
        'Jumps(size=1, chance=0.01), Gaussian(sigma=1), EveryStep(batch=1)'
        """
        regime = self.regime
        parts = ", ".join(map(_call, (regime.drift, regime.noise, regime.visits)))
        return parts if regime.level == 0 else f"{parts}, level={regime.level}"


DESCRIBED = MappingProxyType(
    {
        "stationary": Named(
            "Nothing moves; the noise is normal.",
            Regime(),
        ),
        "linear": Named(
            "The truth rises by the same amount at every step; the noise is normal.",
            Regime(drift.Linear(0.05)),
        ),
        "sinusoid": Named(
            "The truth follows a sine wave; the noise is normal.",
            Regime(drift.Sinusoid(amplitude=1.0, frequency=0.05)),
        ),
        "decay": Named(
            "The truth decays exponentially, as a training loss does; the noise is normal.",
            Regime(drift.Decay(size=5.0, ratio=0.98)),
        ),
        "jump": Named(
            "The truth jumps once and is constant before and after; the noise is normal.",
            Regime(drift.Jump(size=3.0, at=200)),
        ),
        "jumps": Named(
            "The truth is constant except for rare jumps up or down; the noise is normal.",
            Regime(drift.Jumps(size=1.0, chance=0.01)),
        ),
        "random-walk": Named(
            "The truth moves up or down by a fixed step with equal probability; the noise is normal.",
            Regime(drift.RandomWalk(0.05)),
        ),
        "gaussian-walk": Named(
            "The truth moves by normally distributed steps, which have no upper bound; the noise is normal.",
            Regime(drift.RandomWalk(0.05, gaussian=True)),
        ),
        "reflected-walk": Named(
            "The truth makes a random walk between two reflecting walls; the noise is normal.",
            Regime(drift.ReflectedWalk(0.05, width=0.5)),
        ),
        "rademacher": Named(
            "The truth rises steadily; the noise is +sigma or -sigma with equal probability.",
            Regime(drift.Linear(0.05), noise.Rademacher()),
        ),
        "heteroscedastic": Named(
            "Nothing moves; the noise is normal, with a standard deviation that oscillates over time.",
            Regime(noise=noise.Heteroscedastic()),
        ),
        "student": Named(
            "Nothing moves; the noise has heavy tails (Student's t distribution).",
            Regime(noise=noise.StudentT()),
        ),
        "sparse": Named(
            "Nothing moves; the noise is zero except for rare large shocks.",
            Regime(noise=noise.Sparse()),
        ),
        "asynchronous": Named(
            "The truth rises steadily; the noise is normal; each step observes the region with a fixed probability.",
            Regime(drift.Linear(0.01), visits=visits.Bernoulli(0.2)),
        ),
        "batches": Named(
            "The truth rises steadily; the noise is normal; observations come in batches of random size.",
            Regime(drift.Linear(0.01), visits=visits.Binomial(8, share=0.05)),
        ),
        "sign-adversary": Named(
            "The truth always moves away from the estimate; the noise is normal.",
            Regime(drift.SignAdversary(0.05)),
        ),
        "two-point-adversary": Named(
            "The truth always moves away from the estimate; the noise has two values that keep the error of an EMA as "
            "large as possible (the worst case of T3-A).",
            Regime(drift.SignAdversary(0.05), noise.TwoPoint(rate=RATE)),
        ),
        "selective": Named(
            "Nothing moves; the noise is zero except for rare large shocks; a region is rarely visited while its error "
            "is large (the worst case of T12).",
            Regime(noise=noise.Sparse(chance=0.001), visits=visits.Selective(FLOOR**0.5, probability=0.1)),
        ),
        "effort-coupled": Named(
            "The truth moves away from the estimate in proportion to the visit probability; the noise is normal; a "
            "region is rarely visited while its error is large.",
            Regime(drift.EffortCoupled(0.05), visits=visits.Selective(FLOOR**0.5, probability=0.1)),
        ),
        "closed-loop": Named(
            "Training shrinks each of four regions in proportion to its visit probability; the noise is normal; an "
            "allocator derives the visits from the estimates.",
            Regime(drift.ClosedLoop(0.02), noise.Gaussian(0.2), visits.Allocated(batch=2), level=(1.0, 2.0, 4.0, 8.0)),
        ),
    }
)
"""Every named regime with its description."""

NAMED = MappingProxyType({name: named.regime for name, named in DESCRIBED.items()})
"""The regimes alone."""


def _arguments(part: Process) -> dict[str, object]:
    return {"class": type(part).__name__} | dict(_values(part))


def _values(part: Process) -> Iterator[tuple[str, object]]:
    for field in fields(part):  # type: ignore[arg-type]  # parts are dataclasses, which check_process sees to
        value = getattr(part, field.name)
        yield field.name, registry.spec(value) if isinstance(value, Allocator) else value


def _call(part: Process) -> str:
    numbers = ((name, f"{value:.4g}" if isinstance(value, float) else value) for name, value in _values(part))
    return f"{type(part).__name__}({', '.join(f'{name}={value}' for name, value in numbers)})"
