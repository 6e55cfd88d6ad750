"""What a claim is, and how it is judged together with the mutants that must make it fail."""

from __future__ import annotations

import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aria import registry
from aria.interfaces import Allocator, Tracker
from aria.threads import one_thread
from theory.regimes import Regime
from theory.verdict import Interval, holds, powered

ALARM = 1e-6
"""Probability that a true claim fails, divided equally between its checks.

For a check with the sense "above" this needs a margin of two half-widths, which the tests verify.
"""
MUTANT_SHARES = (1 / 8, 1.0)
"""Replicas with which a mutant is tried, in units of the claim's: a small sample detects most of them."""
LEAST = 200
"""Fewest replicas of a share, unless the experiment itself has fewer."""

Subject = Any
"""The subject of a claim and of an experiment: a tracker or an allocator."""


class Trial(NamedTuple):
    """How an experiment is run: its seed, confidence level and sample size."""

    seed: int
    alarm: float
    """Probability that one of its intervals misses."""
    scale: float = 1.0
    """Replicas in units of those of a quick run."""

    def count(self, replicas: int) -> int:
        """Number of replicas if a quick run has ``replicas``."""
        return max(round(replicas * self.scale), min(replicas, LEAST))


class Experiment(ABC):
    """A frozen dataclass: how a subject is measured. The results are a function of subject, regime and trial."""

    @abstractmethod
    def measure(self, subject: Subject, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        """The measured quantities by name."""


class Check(NamedTuple):
    """A measured quantity, how it must compare, and its reference."""

    quantity: str
    sense: str
    """Out of :data:`theory.verdict.SENSES`."""
    reference: float


@dataclass(frozen=True)
class Mutant:
    """A wrong formula, subject or experiment: the one that is given replaces that of the claim."""

    name: str
    references: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """References by quantity and sense."""
    subject: Tracker | Allocator | None = None
    experiment: Experiment | None = None

    def __post_init__(self) -> None:
        if bool(self.references) + (self.subject is not None) + (self.experiment is not None) != 1:
            raise ValueError(f"a mutant changes exactly one of references, subject and experiment, got {self!r}")


@dataclass(frozen=True)
class Claim:
    """A statement about a tracker or an allocator in a regime.

    All ``checks`` must hold; the first one is displayed.
    """

    statement: str
    name: str
    regime: Regime
    subject: Tracker | Allocator
    experiment: Experiment
    checks: tuple[Check, ...]
    mutants: tuple[Mutant, ...]
    limit: float | None = None
    """The certified error as a multiple of the smallest that any linear tracker can certify (T15-lin, T18)."""
    quick: bool = True
    """Whether it is part of a quick run."""


class Outcome(NamedTuple):
    """The fate of a mutant."""

    name: str
    fate: str
    """"killed", "survived" or "underpowered"."""


@dataclass(frozen=True)
class Verdict:
    """The result of judging a claim."""

    claim: Claim
    measured: Mapping[str, Interval]
    ratio: Interval
    """First quantity divided by its reference; the quantity itself if the reference is 0."""
    fallen: tuple[Check, ...]
    mutants: tuple[Outcome, ...]
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether the claim holds and no mutant that the sample could detect survived."""
        return not self.fallen and not self.names("survived")

    def names(self, fate: str) -> list[str]:
        """The mutants with this fate."""
        return [mutant.name for mutant in self.mutants if mutant.fate == fate]

    def row(self) -> dict[str, object]:
        """One line of the table, as plain data."""
        first = self.claim.checks[0]
        return {
            "statement": self.claim.statement,
            "regime": self.claim.name,
            "tracker": registry.spec(self.claim.subject),  # or the allocator
            "quantity": first.quantity,
            "sense": first.sense,
            "reference": first.reference,
            "ratio": self.ratio.value,
            "half_width": self.ratio.half,
            "times_limit": self.claim.limit,
            "holds": not self.fallen,
            "fallen": [f"{check.quantity} {check.sense} {check.reference:.6g}" for check in self.fallen],
            "killed": self.names("killed"),
            "survived": self.names("survived"),
            "underpowered": self.names("underpowered"),
            "seconds": self.seconds,
        }


def judge(claim: Claim, *, seed: int = 0, scale: float = 1.0) -> Verdict:
    """Run the experiment of a claim, and again with other random numbers for each mutant that needs it.

    >>> from theory.claims import CLAIMS
    >>> judge(CLAIMS[0]).sound
    True
    """
    began = time.perf_counter()
    with one_thread():
        measured = _measure(claim, claim.subject, claim.experiment, "", seed, scale)
        fates = tuple(Outcome(mutant.name, _fate_of(mutant, claim, measured, seed, scale)) for mutant in claim.mutants)
    fallen = tuple(check for check in claim.checks if not holds(measured[check.quantity], check.sense, check.reference))
    first = claim.checks[0]
    shown = measured[first.quantity]
    ratio = shown.over(first.reference) if first.reference else shown
    return Verdict(claim, measured, ratio, fallen, fates, time.perf_counter() - began)


def _measure(
    claim: Claim, subject: Subject, experiment: Experiment, stream: str, seed: int, scale: float
) -> Mapping[str, Interval]:
    own = zlib.crc32(f"{seed} {claim.statement} {claim.name} {registry.spec(claim.subject)} {stream}".encode())
    return experiment.measure(subject, claim.regime, Trial(own, ALARM / len(claim.checks), scale))


def _fate_of(mutant: Mutant, claim: Claim, measured: Mapping[str, Interval], seed: int, scale: float) -> str:
    if mutant.references:
        return _wrong_formula(claim, mutant, measured)
    subject, experiment = mutant.subject or claim.subject, mutant.experiment or claim.experiment
    fate = ""
    for share in MUTANT_SHARES:
        wrong = _measure(claim, subject, experiment, f"{mutant.name} {share:g}", seed, share * scale)
        fate = _wrong_run(claim, measured, wrong)
        if fate == "killed":
            break
    return fate


def _wrong_formula(claim: Claim, mutant: Mutant, measured: Mapping[str, Interval]) -> str:
    known = {(check.quantity, check.sense): check.reference for check in claim.checks}
    fates = []
    for (quantity, sense), wrong in mutant.references.items():
        right = known[quantity, sense]  # a KeyError here is a mistake in the table: the quantity is not checked
        band = measured[quantity]
        effect = wrong - (right if sense == "equal" else band.value)
        fates.append((powered(effect, band.half), not holds(band, sense, wrong)))
    return _fate(fates)


def _wrong_run(claim: Claim, right: Mapping[str, Interval], wrong: Mapping[str, Interval]) -> str:
    fates = []
    for check in claim.checks:
        before, after = right[check.quantity], wrong[check.quantity]
        enough = powered(after.value - before.value, max(before.half, after.half))
        fates.append((enough, not holds(after, check.sense, check.reference)))
    return _fate(fates)


def _fate(checks: list[tuple[bool, bool]]) -> str:
    """The fate, from (detectable, detected) for each check."""
    if not any(enough for enough, _ in checks):
        return "underpowered"
    return "killed" if any(enough and detected for enough, detected in checks) else "survived"
