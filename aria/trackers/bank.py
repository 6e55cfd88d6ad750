"""The self-tuning tracker: a bank of moving averages ranked by how well they predict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from aria import checks
from aria.interfaces import Device, Estimate, RegionStats, State, Tracker
from aria.trackers import recursion


@dataclass(frozen=True)
class Bank(Tracker):
    r"""For those who know neither the noise nor the drift.

    Experts :math:`m_i` are EMAs of rates :math:`b_i = 2^{-i}`, ``size`` of them, each started as a plain mean.
    Prediction loss ranks their true errors with no model, since
    :math:`E[(\bar y - m_i)^2] = s^2/n + E(\mu - m_i)^2`. On a visit

    .. math:: L_i \leftarrow \gamma L_i + n(\bar y - m_i)^2, \qquad
              m_i \leftarrow m_i + \max(b_i, n/\Sigma n)(\bar y - m_i), \qquad
              m = \sum_i w_i m_i, \quad w_i \propto e^{-\gamma(L_i - \min L)/(2v)}, \quad
              v = \min_i L_i / \Sigma\gamma^j

    with :math:`\gamma = 1 -` ``forget``: experts are compared over the last ``1/forget`` visits. Exponentially weighted
    aggregation after V. Vovk, "Aggregating strategies", 1990; the learning rate :math:`1/(2v)` is read from the data.

    The standard error is :math:`\sqrt{\hat b\hat v + \sum_i w_i(m_i-m)^2}` with the mean gain
    :math:`\hat b = \sum_i w_i \max(b_i, n/\Sigma n)` and :math:`\hat v` the loss with one pseudo-visit of loss
    :math:`m^2`.

    >>> from aria.statistics import one_each
    >>> tracker = Bank()
    >>> noise = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    >>> state = tracker.init((1,))
    >>> for y in 5 + noise:  # nothing moves: the slow experts win
    ...     state = tracker.update(state, one_each([y]))
    >>> bool((tracker.estimate(state).value - 5).abs() < 0.15)
    True
    """

    size: int = 9
    forget: float = 0.005

    def __post_init__(self) -> None:
        checks.whole("size", self.size, least=1)
        checks.open_unit("forget", self.forget)

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        zeros = torch.zeros(shape, dtype=torch.float64, device=device)
        experts = zeros[..., None].expand(*shape, self.size)
        return {
            "expert": experts.clone(),  # (..., K, N)
            "loss": experts.clone(),  # (..., K, N)
            "norm": zeros,  # discounted number of losses
            "count": zeros.clone(),  # observations so far
            "latest": zeros.clone(),  # observations of the latest visit
        }

    def _gains(self, latest: Tensor, count: Tensor) -> Tensor:
        """(..., K, N) the experts' gains at a visit that brings ``latest`` observations to a total of ``count``."""
        rates = 2.0 ** -torch.arange(self.size, dtype=torch.float64, device=count.device)
        return torch.maximum(rates, (latest / count.clamp(min=1))[..., None])

    def update(self, state: State, stats: RegionStats) -> State:
        seen = recursion.seen(stats)  # (..., K)
        mean = (stats.total / stats.n.clamp(min=1))[..., None]
        scored = seen * state["count"].clamp(max=1)  # the first visit has no prediction to score
        fade = 1 - self.forget * scored
        count = state["count"] + stats.n
        return {
            "expert": torch.lerp(state["expert"], mean, self._gains(stats.n, count) * seen[..., None]),
            "loss": fade[..., None] * state["loss"] + (scored * stats.n)[..., None] * (mean - state["expert"]) ** 2,
            "norm": fade * state["norm"] + scored,
            "count": count,
            "latest": torch.lerp(state["latest"], stats.n.to(count.dtype), seen),
        }

    def weights(self, state: State) -> Tensor:
        """(..., K, N) how much each expert is believed."""
        excess = state["loss"] - state["loss"].amin(-1, keepdim=True)
        variance = state["loss"].amin(-1) / state["norm"].clamp(min=1)
        scale = (1 - self.forget) / (2 * variance.clamp(min=torch.finfo(variance.dtype).tiny))
        return torch.softmax(-(excess * scale[..., None]).clamp(max=1e3), dim=-1)

    def estimate(self, state: State) -> Estimate:
        weights = self.weights(state)
        value = (weights * state["expert"]).sum(-1)  # (..., K)
        spread = (weights * (state["expert"] - value[..., None]) ** 2).sum(-1)
        gain = (weights * self._gains(state["latest"], state["count"])).sum(-1) / state["latest"].clamp(min=1)
        variance = (state["loss"].amin(-1) + value * value) / (state["norm"] + 1)
        return Estimate(value, recursion.root_or_inf(gain * variance + spread, evidence=state["count"]))

    @classmethod
    def examples(cls) -> Iterable[Bank]:
        return cls(), cls(size=3, forget=0.1)
