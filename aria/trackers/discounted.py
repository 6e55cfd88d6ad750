"""Discounted mean: memory fades with time, visited or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from aria import checks
from aria.interfaces import Certificate, Device, Estimate, RegionStats, State, Tracker
from aria.trackers import recursion


@dataclass(frozen=True)
class Discounted(Tracker):
    r"""Mean of all observations, each weighted by :math:`\gamma^{age}`.

    .. math:: N \leftarrow \gamma N + n, \qquad m \leftarrow m + (n/N)(\bar y - m)

    ``N`` decays in every step, so old observations of a region soon count less than recent ones. If every
    region is visited once per step, this is the bias-corrected EMA of rate :math:`1-\gamma`.

    >>> from aria.statistics import from_samples
    >>> tracker = Discounted(discount=0.5)
    >>> state = tracker.init((1,))
    >>> for seen in ([4.0], [], [1.0]):
    ...     state = tracker.update(state, from_samples([0] * len(seen), seen, num_regions=1))
    >>> tracker.estimate(state).value  # (4/4 + 1) / (1/4 + 1)
    tensor([1.6000], dtype=torch.float64)
    """

    discount: float = 0.99
    sigma: float | None = None

    def __post_init__(self) -> None:
        checks.open_unit("discount", self.discount)
        if self.sigma is not None:
            checks.positive("sigma", self.sigma)

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        return recursion.init(shape, device) | {"count": torch.zeros(shape, dtype=torch.float64, device=device)}

    def update(self, state: State, stats: RegionStats) -> State:
        count = self.discount * state["count"] + stats.n  # (..., K)
        gain = stats.n / count.clamp(min=torch.finfo(count.dtype).tiny)
        return recursion.update(state, stats, gain) | {"count": count}

    def estimate(self, state: State) -> Estimate:
        return recursion.estimate(state, self.sigma)

    def certificate(self, state: State) -> Certificate:
        return recursion.certificate(state)

    @classmethod
    def examples(cls) -> Iterable[Discounted]:
        return cls(), cls(discount=0.5, sigma=1.0)
