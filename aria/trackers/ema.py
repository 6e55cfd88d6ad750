"""Exponential moving average over a region's visits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from aria import checks
from aria.interfaces import Certificate, Device, Estimate, RegionStats, State, Tracker
from aria.trackers import recursion


@dataclass(frozen=True)
class EMA(Tracker):
    r"""Bias-corrected EMA, moved on visits only.

    .. math:: m \leftarrow m + r(\bar y - m), \qquad r = b / (1 - (1-b)^v)

    at the region's v-th visit: the first observation counts fully, so no initial value survives. With drift
    ``D`` and noise ``s`` a region visited every step errs by at most :math:`D(1-b)/b` in bias and
    :math:`s^2 b/(2-b)` in variance once settled; the best rate is about :math:`(2D/s)^{2/3}`.

    ``importance=True`` divides the rate by the probability :math:`q_t` that the step visited the region,
    :math:`m \leftarrow m + (b/q_t)(\bar y - m)` (residual importance weighting). In expectation the error
    then shrinks by :math:`1-b` a step whatever the allocation does, which removes the downward bias of
    estimates that steer their own sampling. It needs :math:`b \le q_t`; beyond that the gain is capped at 1 and the
    correction is partial.

    ``sigma`` is the standard deviation of one observation where it is known; else it is read from the data.

    >>> from aria.statistics import one_each
    >>> tracker = EMA(rate=0.5)
    >>> state = tracker.init((1,))
    >>> for y in (4.0, 1.0):
    ...     state = tracker.update(state, one_each([y]))
    >>> tracker.estimate(state).value
    tensor([2.], dtype=torch.float64)
    """

    rate: float = 0.1
    importance: bool = False
    sigma: float | None = None

    def __post_init__(self) -> None:
        checks.half_open_unit("rate", self.rate)
        checks.flag("importance", self.importance)
        if self.sigma is not None:
            checks.positive("sigma", self.sigma)

    @property
    def uses_visit(self) -> bool:
        return self.importance

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        return recursion.init(shape, device) | {"weight": torch.zeros(shape, dtype=torch.float64, device=device)}

    def update(self, state: State, stats: RegionStats) -> State:
        step = recursion.seen(stats).mul_(self.rate)  # (..., K)
        weight = (state["weight"] + step).addcmul_(state["weight"], step, value=-1)  # 1 - (1-b)^v
        if self.importance:
            gain = (self.rate / stats.visit).clamp(max=1).maximum(recursion.unseen(state)) * recursion.seen(stats)
        else:
            gain = step.div_(weight.clamp(min=self.rate))
        return recursion.update(state, stats, gain) | {"weight": weight}

    def estimate(self, state: State) -> Estimate:
        return recursion.estimate(state, self.sigma)

    def certificate(self, state: State) -> Certificate:
        return recursion.certificate(state)

    @classmethod
    def examples(cls) -> Iterable[EMA]:
        return cls(), cls(rate=1.0), cls(rate=0.01, importance=True), cls(sigma=0.5)
