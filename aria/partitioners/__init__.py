"""Partitioners: conditions to regions. One file each; ``fitted.py`` holds what they share."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
