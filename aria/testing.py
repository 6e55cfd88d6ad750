"""Conformance checks for your own classes: call them in your tests.

>>> from aria.trackers import EMA
>>> check_tracker(EMA(rate=0.3))
"""

from typing import TYPE_CHECKING

from aria import lazy
from aria.allocators.conformance import check_allocator
from aria.partitioners.conformance import check_partitioner
from aria.trackers.conformance import check_tracker

if TYPE_CHECKING:
    from aria.distill.objectives.conformance import check_objective

__all__ = ["check_allocator", "check_objective", "check_partitioner", "check_tracker"]

# check_objective needs the extra `distill`
__getattr__, __dir__ = lazy.attributes("aria", ["check_objective"], ["distill.objectives.conformance"])
