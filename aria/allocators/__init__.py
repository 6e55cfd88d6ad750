"""Allocators: estimates to a distribution over regions. A new one is one file and one line in ``__init__.pyi``."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
