"""The null tracker: every region the same, whatever is observed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from aria import checks
from aria.interfaces import Device, Estimate, RegionStats, State, Tracker
from aria.trackers import recursion


@dataclass(frozen=True)
class Constant(Tracker):
    """Estimate = ``level`` for every region; only remembers which regions were seen.

    With an allocator that weighs by the estimate it gives the base measure: the control arm.

    >>> from aria.statistics import one_each
    >>> tracker = Constant(level=2.0)
    >>> one = torch.tensor([1.0, 0.0])
    >>> state = tracker.update(tracker.init((2,)), RegionStats(one, 7 * one, 49 * one, one))
    >>> tracker.estimate(state)
    Estimate(value=tensor([2., 2.], dtype=torch.float64), stderr=tensor([0., inf], dtype=torch.float64))
    """

    statistic: ClassVar[str] = "constant"
    level: float = 1.0

    def __post_init__(self) -> None:
        checks.positive("level", self.level)

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        return {"seen": torch.zeros(shape, dtype=torch.float64, device=device)}

    def update(self, state: State, stats: RegionStats) -> State:
        return {"seen": torch.maximum(state["seen"], recursion.seen(stats))}

    def estimate(self, state: State) -> Estimate:
        seen = state["seen"]
        return Estimate(torch.full_like(seen, self.level), 1 / seen - 1)
