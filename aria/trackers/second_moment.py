"""Second moments, for allocators that minimise variance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from aria.interfaces import Certificate, Device, Estimate, RegionStats, State, Tracker
from aria.trackers import nested, recursion
from aria.trackers.ema import EMA


@dataclass(frozen=True)
class SecondMoment(Tracker):
    r"""Tracks :math:`E[y^2]` by any other tracker, which is shown the mean square of each visit as one observation.

    >>> from aria.statistics import from_samples
    >>> tracker = SecondMoment(of=EMA(rate=0.5))
    >>> stats = from_samples([0, 0], [1.0, 3.0], num_regions=1)
    >>> tracker.estimate(tracker.update(tracker.init((1,)), stats)).value
    tensor([5.], dtype=torch.float64)
    """

    statistic: ClassVar[str] = "second moment"
    of: Tracker = field(default_factory=EMA)

    def __post_init__(self) -> None:
        nested.check(self, self.of)

    @property
    def uses_visit(self) -> bool:
        return self.of.uses_visit

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        return self.of.init(shape, device)

    def update(self, state: State, stats: RegionStats) -> State:
        square = stats.square / stats.n.clamp(min=1)  # (..., K)
        return self.of.update(state, RegionStats(recursion.seen(stats), square, square * square, stats.visit))

    def estimate(self, state: State) -> Estimate:
        return self.of.estimate(state)

    def certificate(self, state: State) -> Certificate | None:
        return self.of.certificate(state)

    @classmethod
    def examples(cls) -> Iterable[SecondMoment]:
        return cls(), cls(of=EMA(rate=0.5))
