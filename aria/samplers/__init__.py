"""Samplers: the one stateful object of a run, and its adapter to data loaders."""

from typing import TYPE_CHECKING

from aria import lazy

if TYPE_CHECKING:
    from aria.samplers.loader import DrawBatches
    from aria.samplers.sampler import Sampler
    from aria.samplers.signals import NonFiniteSignal

__all__ = ["DrawBatches", "NonFiniteSignal", "Sampler"]

__getattr__, __dir__ = lazy.attributes(__name__, __all__, ["loader", "sampler", "signals"])
