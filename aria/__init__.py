"""ARIA: on which conditions should the next step of a diffusion distillation be spent?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aria import allocators, partitioners, registry, trackers
    from aria.interfaces import (
        Allocator,
        Certificate,
        Draw,
        Estimate,
        Partition,
        Partitioner,
        RegionStats,
        State,
        Tracker,
    )
    from aria.pool import Pool
    from aria.registry import SpecError
    from aria.samplers import DrawBatches, NonFiniteSignal, Sampler

__version__ = "0.1.0"

__all__ = [
    "Allocator",
    "Certificate",
    "Draw",
    "DrawBatches",
    "Estimate",
    "NonFiniteSignal",
    "Partition",
    "Partitioner",
    "Pool",
    "RegionStats",
    "Sampler",
    "SpecError",
    "State",
    "Tracker",
    "allocators",
    "partitioners",
    "registry",
    "trackers",
]

_HOMES = ("interfaces", "pool", "registry", "samplers")


def __getattr__(name: str) -> Any:
    """Names are loaded when they are first asked for: a command that only prints its help need not load torch."""
    if name not in __all__:
        raise AttributeError(f"module 'aria' has no attribute {name!r}")
    if name in {"allocators", "partitioners", "registry", "trackers"}:
        return import_module(f"aria.{name}")
    found = next(vars(home)[name] for home in map(import_module, (f"aria.{h}" for h in _HOMES)) if name in vars(home))
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
