"""Sliding window over a region's last visits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from aria import checks
from aria.interfaces import Certificate, Device, Estimate, RegionStats, State, Tracker
from aria.trackers import recursion, ring


@dataclass(frozen=True)
class Window(Tracker):
    r"""Mean of all observations of a region's last ``size`` visits, kept as a ring of sums.

    .. math:: m = \sum_{j<W} total_j \Big/ \sum_{j<W} n_j

    With one observation a visit every step, the bias under drift ``D`` is at most :math:`D(W-1)/2` and the variance
    :math:`s^2/W`; the best size is about :math:`(2s^2/D^2)^{1/3}`. The ring is copied each step: time and memory
    grow with ``size``, so for many regions prefer :class:`EMA`, which tracks equally well to first order.

    >>> from aria.statistics import one_each
    >>> tracker = Window(size=2)
    >>> state = tracker.init((1,))
    >>> for y in (9.0, 1.0, 2.0):
    ...     state = tracker.update(state, one_each([y]))
    >>> tracker.estimate(state).value
    tensor([1.5000], dtype=torch.float64)
    """

    size: int = 16
    sigma: float | None = None

    def __post_init__(self) -> None:
        checks.whole("size", self.size, least=1)
        if self.sigma is not None:
            checks.positive("sigma", self.sigma)

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        return ring.init(shape, self.size, device) | {"visits": torch.zeros(shape, dtype=torch.int64, device=device)}

    def update(self, state: State, stats: RegionStats) -> State:
        seen: Tensor = stats.n > 0  # (..., K)
        return ring.push(state, stats, slot=state["visits"] % self.size, write=seen) | {
            "visits": state["visits"] + seen
        }

    def estimate(self, state: State) -> Estimate:
        return recursion.estimate(ring.summary(state), self.sigma)

    def certificate(self, state: State) -> Certificate:
        return recursion.certificate(ring.summary(state))

    @classmethod
    def examples(cls) -> Iterable[Window]:
        return cls(), cls(size=1), cls(size=5, sigma=1.0)
