"""Ways to allocate training effort, compared in pairs on distillations: ``aria bench`` in Python."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
