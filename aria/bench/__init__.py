"""Allocator variants on real distillation, compared in pairs: ``aria bench`` in Python."""

from typing import TYPE_CHECKING

from aria import lazy

if TYPE_CHECKING:
    from aria.bench.arms import SETTINGS, STANDARD, Arm, Setting
    from aria.bench.compare import Comparison
    from aria.bench.queue import Queue
    from aria.bench.stacked import Recipe

__all__ = ["SETTINGS", "STANDARD", "Arm", "Comparison", "Queue", "Recipe", "Setting"]

__getattr__, __dir__ = lazy.attributes(__name__, __all__, ["arms", "compare", "queue", "stacked"])
