"""Means with a confidence radius for optimistic allocators, valid while the allocation adapts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from aria import checks
from aria.interfaces import Certificate, Device, Estimate, RegionStats, State, Tracker
from aria.trackers import recursion, ring
from aria.trackers.discounted import Discounted


def radius(
    count: Tensor, weight: Tensor, lag: Tensor, *, sigma: float, drift: float, delta: float, prior: float
) -> Tensor:
    r"""Self-normalised radius, for any visits that depend on the past only:

    .. math:: P\Big(|m-\mu| > D\,L + \frac{\sigma}{N}\sqrt{(N_2+c)\ln\frac{N_2+c}{c\,\delta^2}}\Big) \le \delta

    at a fixed step, with :math:`N` the weighted count, :math:`N_2` the sum of squared weights, :math:`L` the weighted
    age and :math:`c` a prior count. Without the lag term :math:`D\,L` the violation rate exceeds ``delta`` under drift.
    Method of mixtures: V. H. de la Peña, M. J. Klass, T. L. Lai, "Self-normalized processes", 2004; for discounted and
    sliding-window indices: A. Garivier, E. Moulines, "On upper-confidence bound policies for switching bandits", 2011.
    """
    square = weight + prior  # (..., K)
    return drift * lag + sigma * (square * (square / (prior * delta**2)).log()).sqrt() / count


def _check(sigma: float, drift: float, delta: float) -> None:
    checks.positive("sigma", sigma)
    checks.non_negative("drift", drift)
    checks.open_unit("delta", delta)


@dataclass(frozen=True)
class DiscountedUCB(Tracker):
    r"""Discounted mean; ``stderr`` holds the radius at confidence ``1 - delta``.

    For observations that are sub-Gaussian with ``sigma`` around a truth that moves by at most ``drift`` a step; the
    prior count is :math:`.05/(1-\gamma^2)`. See :func:`radius`.

    >>> from aria.statistics import one_each
    >>> tracker = DiscountedUCB(sigma=1.0, drift=0.0, discount=0.9)
    >>> state = tracker.init((1,))
    >>> for _ in range(100):
    ...     state = tracker.update(state, one_each([1.0]))
    >>> round(float(tracker.estimate(state).stderr), 3)
    0.707
    """

    sigma: float
    drift: float
    discount: float = 0.99
    delta: float = 0.05

    def __post_init__(self) -> None:
        _check(self.sigma, self.drift, self.delta)
        checks.open_unit("discount", self.discount)

    @property
    def _mean(self) -> Discounted:
        return Discounted(self.discount, self.sigma)

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        return self._mean.init(shape, device)

    def update(self, state: State, stats: RegionStats) -> State:
        return self._mean.update(state, stats)

    def estimate(self, state: State) -> Estimate:
        count = state["count"]  # N; noise = N2 / N²
        spread = radius(
            count, state["noise"] * count**2, state["lag"],
            sigma=self.sigma, drift=self.drift, delta=self.delta, prior=0.05 / (1 - self.discount**2),
        )  # fmt: skip
        return Estimate(state["value"], spread)

    def certificate(self, state: State) -> Certificate:
        return self._mean.certificate(state)

    @classmethod
    def examples(cls) -> Iterable[DiscountedUCB]:
        return cls(sigma=1.0, drift=0.0), cls(sigma=0.3, drift=0.01, discount=0.8, delta=0.01)


@dataclass(frozen=True)
class WindowUCB(Tracker):
    r"""Mean over the last ``size`` *steps*; ``stderr`` holds the radius at confidence ``1 - delta``.

    The window counts steps, not visits: only then does its beginning not depend on which regions were drawn, as the
    proof of :func:`radius` needs. A region not visited for ``size`` steps is unknown again. The prior count is a tenth
    of ``size``. The ring holds 32 bytes for each region and step: prefer :class:`DiscountedUCB` for many regions.

    >>> from aria.statistics import one_each
    >>> tracker = WindowUCB(sigma=1.0, drift=0.0, size=10)
    >>> state = tracker.init((1,))
    >>> for y in range(20):
    ...     state = tracker.update(state, one_each([y]))
    >>> tracker.estimate(state).value
    tensor([14.5000], dtype=torch.float64)
    """

    sigma: float
    drift: float
    size: int = 100
    delta: float = 0.05

    def __post_init__(self) -> None:
        _check(self.sigma, self.drift, self.delta)
        checks.whole("size", self.size, least=1)

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        return ring.init(shape, self.size, device)

    def update(self, state: State, stats: RegionStats) -> State:
        slot = state["clock"].long() % self.size  # (..., K)
        return ring.push(state, stats, slot, write=torch.ones_like(slot, dtype=torch.bool))

    def estimate(self, state: State) -> Estimate:
        window = ring.summary(state)
        count = state["ring"][..., 0, :].sum(-1)  # N = N2
        spread = radius(
            count, count, window["lag"],
            sigma=self.sigma, drift=self.drift, delta=self.delta, prior=self.size / 10,
        )  # fmt: skip
        return Estimate(window["value"], spread)

    def certificate(self, state: State) -> Certificate:
        return recursion.certificate(ring.summary(state))

    @classmethod
    def examples(cls) -> Iterable[WindowUCB]:
        return cls(sigma=1.0, drift=0.0), cls(sigma=0.3, drift=0.01, size=4, delta=0.01)
