"""Trackers: noisy signals to one estimate per region. A new one is one file and one line in ``__init__.pyi``."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
