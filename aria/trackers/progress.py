"""Learning progress: how fast another tracker's estimate falls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from aria import checks
from aria.interfaces import Device, Estimate, RegionStats, State, Tracker
from aria.trackers import nested, recursion
from aria.trackers.ema import EMA


@dataclass(frozen=True)
class Progress(Tracker):
    r"""Fall of the estimate of ``of`` per visit, positive while the discrepancy shrinks.

    A slow EMA follows the estimate; on a line of slope :math:`-g` per visit it trails by :math:`g(1-b)/b`, so

    .. math:: g = (slow - m)\,b/(1-b) .

    The standard error is that of ``of`` times :math:`b/(1-b)`: to first order, since the slow
    average adds little noise of its own.
    After P.-Y. Oudeyer, F. Kaplan, V. Hafner, "Intrinsic motivation systems for autonomous mental development", 2007.

    >>> from aria.statistics import one_each
    >>> tracker = Progress(of=EMA(rate=0.5), rate=0.2)
    >>> state = tracker.init((1,))
    >>> for t in range(100):
    ...     y = 10 - 0.05 * t
    ...     state = tracker.update(state, one_each([y]))
    >>> tracker.estimate(state).value
    tensor([0.0500], dtype=torch.float64)
    """

    statistic: ClassVar[str] = "slope"
    of: Tracker = field(default_factory=EMA)
    rate: float = 0.05

    def __post_init__(self) -> None:
        nested.check(self, self.of)
        checks.open_unit("rate", self.rate)

    @property
    def uses_visit(self) -> bool:
        return self.of.uses_visit

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        zeros = torch.zeros(shape, dtype=torch.float64, device=device)
        return nested.wrap(self.of.init(shape, device)) | {"slow": zeros, "start": zeros + 1}

    def update(self, state: State, stats: RegionStats) -> State:
        inner = self.of.update(nested.unwrap(state), stats)
        gain = state["start"].clamp(min=self.rate) * recursion.seen(stats)  # (..., K); 1 at the first visit
        slow = torch.lerp(state["slow"], self.of.estimate(inner).value, gain)
        return nested.wrap(inner) | {"slow": slow, "start": (1 - gain) * state["start"]}

    def estimate(self, state: State) -> Estimate:
        inner = self.of.estimate(nested.unwrap(state))
        factor = self.rate / (1 - self.rate)
        return Estimate(factor * (state["slow"] - inner.value), factor * inner.stderr)

    @classmethod
    def examples(cls) -> Iterable[Progress]:
        return cls(), cls(of=EMA(rate=0.5), rate=0.2)
