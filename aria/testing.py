"""Conformance checks for plug-ins: call them in your own tests.

>>> from aria.trackers import EMA
>>> check_tracker(EMA(rate=0.3))
"""

from aria.allocators.conformance import check_allocator
from aria.partitioners.conformance import check_partitioner
from aria.trackers.conformance import check_tracker

__all__ = ["check_allocator", "check_partitioner", "check_tracker"]
