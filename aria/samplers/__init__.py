"""Samplers: the one stateful object of a run, and its adapter to data loaders."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
