"""Allocator variants on real distillation, compared in pairs: ``aria bench`` in Python."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
