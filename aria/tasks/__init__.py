"""The benchmark's tasks, and the parts from which you can build your own."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
