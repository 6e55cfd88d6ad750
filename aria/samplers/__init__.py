"""Samplers: the one stateful object of a run, and its adapter to data loaders."""

from aria.samplers.loader import DrawBatches
from aria.samplers.sampler import Sampler
from aria.samplers.signals import NonFiniteSignal

__all__ = ["DrawBatches", "NonFiniteSignal", "Sampler"]
