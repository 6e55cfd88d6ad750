"""Arms: what is compared. Arms differ in where effort goes: over conditions, and if they say so over noise levels and
inputs; in nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from aria import checks, registry
from aria.distill.engine.replacement import Replacement
from aria.distill.objectives import Weighting
from aria.interfaces import Allocator, Partitioner, Tracker


@dataclass(frozen=True)
class Setting:
    """What all arms of a comparison share: how often conditions are replaced, and how noise levels count."""

    replacement: str
    weighting: str


SETTINGS = {
    "rc": Setting("exponential(5.0)", "uniform"),
    "tuned": Setting("exponential(1.0)", "velocity"),
}
"""Random conditioning as published; and hand-tuned: a larger random share, noise levels counted by velocity."""


LOOKAHEAD = "lookahead"
"""What greedy lookahead over all arms is called."""


@dataclass(frozen=True)
class Arm:
    """One way to allocate."""

    name: str
    allocator: str = "pool"
    tracker: str = "bank"
    partitioner: str = "labels('concept')"
    by_condition: bool = False
    """Whether the base measure counts conditions instead of weighing them as the pool does."""
    floor: float = 0.2
    replacement: str | None = None
    """Another replacement than the setting's."""
    weighting: str | None = None
    """Another weighting than the setting's."""
    on_policy: float = 0.0
    """Share of every batch whose images the student makes itself."""

    def __post_init__(self) -> None:
        if self.name == LOOKAHEAD:
            raise ValueError(f"an arm cannot be called {LOOKAHEAD}: that is the name of the mark that --lookahead adds")
        if self.allocator != "oracle":
            registry.resolve(self.allocator, Allocator)
        elif self.on_policy:
            raise ValueError("the oracle knows discrepancies under images of the data: it takes no on_policy rows")
        registry.resolve(self.tracker, Tracker)
        registry.resolve(self.partitioner, Partitioner)
        checks.closed_unit("floor", self.floor)
        checks.closed_unit("on_policy", self.on_policy)
        if self.replacement is not None:
            registry.resolve(self.replacement, Replacement)
        if self.weighting is not None:
            registry.resolve(self.weighting, Weighting)


STANDARD = (
    Arm("paired", replacement="constant(0.0)"),
    Arm("rc"),
    Arm("sqrt-pool", "proportional(power=0, base=0.5)"),
    Arm("region-uniform", "proportional(power=0, base=0)", floor=0.0),
    Arm("condition-uniform", by_condition=True),
    Arm("aria-p", "proportional"),
    Arm("aria-q", "proportional(base=0.5)"),
    Arm("aria-r", "proportional(base=0)"),
    Arm("aria", "proportional", by_condition=True, weighting="velocity", on_policy=0.375),
    Arm("aria-static", by_condition=True, weighting="velocity", on_policy=0.375),
    Arm("oracle", "oracle"),
)
"""The arms every comparison has: no replacement; random conditioning; three static mixes; discrepancy on three bases;
``aria``, which besides discrepancy by condition counts noise levels by velocity and has on-policy rows, and the same
without discrepancy; and the exact discrepancies."""


def arm(text: str) -> Arm:
    """An arm as a user writes it: an allocator's spec, or ``name: setting=value; …``.

    >>> arm("softmax(temperature=0.5)").allocator
    'softmax(temperature=0.5)'
    >>> arm("fast: allocator=proportional; tracker=ema(rate=0.5)").tracker
    'ema(rate=0.5)'
    """
    known = {standard.name: standard for standard in STANDARD}
    if text.strip() in known:
        return known[text.strip()]
    head, colon, rest = text.partition(": ")
    if not colon:
        return Arm(text.strip(), text.strip())
    try:
        return replace(Arm(head.strip()), **_settings(rest))
    except ValueError as error:
        raise ValueError(f"arm {head.strip()!r}: {error}") from error


def _settings(text: str) -> dict[str, Any]:
    """What ``setting=value; …`` says."""
    allowed = ["allocator", "tracker", "partitioner", "by_condition", "floor", "replacement", "weighting", "on_policy"]
    told: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name not in allowed:
            hint = registry.hint(name, allowed) if name not in allowed else ""
            raise ValueError(f"cannot read {part!r}{hint}: write {' | '.join(allowed)} = value")
        told[name] = _read(name, value)
    return told


def _read(name: str, value: str) -> object:
    if name == "by_condition":
        checks.one_of(name, value, ("true", "false"))
        return value == "true"
    if name not in ("floor", "on_policy"):
        return value
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{name} must lie in [0, 1], got {value!r}") from None
