"""The embedded benchmark's tasks, and what a task of one's own can be made of."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
