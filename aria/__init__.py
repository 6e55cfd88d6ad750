"""ARIA: on which conditions should the next step of a diffusion distillation be spent?"""

from typing import TYPE_CHECKING

from aria import lazy

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

__getattr__, __dir__ = lazy.attributes(__name__, __all__, ["interfaces", "pool", "registry", "samplers"])
