"""Kalman filter of a random walk with known noise and drift."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from aria import checks
from aria.interfaces import Certificate, Device, Estimate, RegionStats, State, Tracker
from aria.trackers import recursion


@dataclass(frozen=True)
class Kalman(Tracker):
    r"""The best linear tracker where the truth takes independent steps of standard deviation ``drift`` (:math:`\tau`).

    In information form (:math:`\Lambda = 1/P`), which starts from "nothing known" without a special case:

    .. math:: \Lambda_{pred} = \Lambda/(1+\tau^2\Lambda), \qquad \Lambda = \Lambda_{pred} + n/\sigma^2, \qquad
              m \leftarrow m + \frac{n/\sigma^2}{\Lambda}(\bar y - m), \qquad stderr = \Lambda^{-1/2} .

    Its steady gain is :math:`K = (-\lambda + \sqrt{\lambda^2+4\lambda})/2` with :math:`\lambda = \tau^2/\sigma^2`.
    A random walk and a *bounded drift* are different contracts: on a truth that moves steadily by
    :math:`\tau` a step this filter loses by an order of magnitude to :class:`CertificateGain`.

    R. E. Kalman, "A New Approach to Linear Filtering and Prediction Problems", 1960.

    >>> from aria.statistics import one_each
    >>> tracker = Kalman(sigma=1.0, drift=0.0)
    >>> state = tracker.init((1,))
    >>> for y in (1.0, 2.0, 6.0):
    ...     state = tracker.update(state, one_each([y]))
    >>> tracker.estimate(state)  # no drift: the plain mean, known to within sigma/sqrt(3)
    Estimate(value=tensor([3.], dtype=torch.float64), stderr=tensor([0.5774], dtype=torch.float64))
    """

    sigma: float
    drift: float

    def __post_init__(self) -> None:
        checks.positive("sigma", self.sigma)
        checks.non_negative("drift", self.drift)

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        return recursion.init(shape, device) | {"information": torch.zeros(shape, dtype=torch.float64, device=device)}

    def update(self, state: State, stats: RegionStats) -> State:
        predicted = state["information"] / (1 + self.drift**2 * state["information"])  # (..., K)
        gained = stats.n / self.sigma**2
        information = predicted + gained
        gain = gained / information.clamp(min=torch.finfo(information.dtype).tiny)
        return recursion.update(state, stats, gain) | {"information": information}

    def estimate(self, state: State) -> Estimate:
        return Estimate(state["value"], state["information"].rsqrt())

    def certificate(self, state: State) -> Certificate:
        return recursion.certificate(state)

    @classmethod
    def examples(cls) -> Iterable[Kalman]:
        return cls(sigma=1.0, drift=0.1), cls(sigma=0.3, drift=0.0)
