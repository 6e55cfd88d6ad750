"""Arms: what is compared. Arms differ only in where training effort goes: over conditions, and where an arm sets
them, over noise levels and inputs."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from aria import checks, registry
from aria.bench import aria_arm
from aria.checks import InvalidSetting
from aria.distill.engine.replacement import Replacement
from aria.distill.objectives import Weighting
from aria.interfaces import Allocator, Partitioner, Tracker

LOOKAHEAD, ORACLE = "lookahead", "oracle"
"""Name of greedy lookahead over all arms, and the allocator of the arm that uses exact discrepancies."""


@dataclass(frozen=True)
class Arm:
    """One way to allocate."""

    name: str
    allocator: str = "pool"
    tracker: str = aria_arm.TRACKER
    partitioner: str = "labels('concept')"
    by_condition: bool = False
    """Whether every condition counts the same in the base distribution, whatever its weight in the pool."""
    floor: float = aria_arm.FLOOR
    replacement: str | None = None
    """Replacement schedule, if different from the setting's."""
    weighting: str | None = None
    """Weighting of noise levels, if different from the setting's."""
    on_policy: float = 0.0
    """Share of every batch that continues from the student's own outputs."""

    def __post_init__(self) -> None:
        if self.name == LOOKAHEAD:
            message = f"an arm cannot be called {LOOKAHEAD}: that is the name of the reference that --lookahead adds"
            raise InvalidSetting("arm", "conflict", message)
        if self.allocator != ORACLE:
            registry.resolve(self.allocator, Allocator)
        elif self.on_policy:
            message = "the oracle's discrepancies are those on training images: it takes no on_policy rows"
            raise InvalidSetting("on_policy", "conflict", message)
        registry.resolve(self.tracker, Tracker)
        registry.resolve(self.partitioner, Partitioner)
        checks.closed_unit("floor", self.floor)
        checks.closed_unit("on_policy", self.on_policy)
        if self.replacement is not None:
            registry.resolve(self.replacement, Replacement)
        if self.weighting is not None:
            registry.resolve(self.weighting, Weighting)


ARIA = Arm(
    "aria",
    aria_arm.ALLOCATOR,
    by_condition=aria_arm.BY_CONDITION,
    replacement=aria_arm.REPLACEMENT,
    weighting=aria_arm.WEIGHTING,
)
"""The defaults of ``aria distill``, except for what :data:`aria.bench.aria_arm.DIFFERENCES` explains."""

STANDARD = (
    Arm("paired", replacement="constant(0.0)"),
    Arm("rc"),
    Arm("sqrt-pool", "proportional(power=0, base=0.5)"),
    Arm("region-uniform", "proportional(power=0, base=0)", floor=0.0),
    Arm("condition-uniform", by_condition=True),
    Arm("aria-p", "proportional"),
    Arm("aria-q", "proportional(base=0.5)"),
    Arm("aria-r", "proportional(base=0)"),
    ARIA,
    replace(ARIA, name="aria-static", allocator="pool"),
    Arm("oracle", ORACLE),
)
"""The standard arms: no replacement; random conditioning; three static mixes; effort proportional to the discrepancy on
three base distributions; ``aria``; the same with a static mix; and effort by the exact discrepancies."""


def arm(text: str) -> Arm:
    """The arm that a user's text describes: the spec of an allocator, or ``name: setting=value; …``.

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
    """The values in ``setting=value; …``."""
    allowed = [field.name for field in fields(Arm) if field.name != "name"]
    values: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name not in allowed:
            hint = registry.hint(name, allowed) if name not in allowed else ""
            raise InvalidSetting(name, "unknown", f"cannot read {part!r}{hint}: write {' | '.join(allowed)} = value")
        values[name] = _read(name, value)
    return values


def _read(name: str, value: str) -> object:
    if name == "by_condition":
        checks.one_of(name, value, ("true", "false"))
        return value == "true"
    if name not in ("floor", "on_policy"):
        return value
    try:
        return float(value)
    except ValueError:
        raise InvalidSetting(name, "range", f"{name} must lie in [0, 1], got {value!r}") from None
