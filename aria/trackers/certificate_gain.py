"""The tracker that sets its gain from its own certificate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aria import checks
from aria.interfaces import Certificate, Device, Estimate, RegionStats, State, Tracker
from aria.trackers import recursion


@dataclass(frozen=True)
class CertificateGain(Tracker):
    r"""For known noise ``sigma`` (:math:`\sigma`) and a truth that moves by at most ``drift`` (:math:`D`) a step.

    .. math:: r = \frac{B}{B + \sigma^2/n}, \qquad B = 2\,(D\,(lag+1))^2 + \sigma^2\,noise

    with lag and noise taken from the certificate before the visit. Handles gaps and batches of any size, is
    certified at every step (the gain looks at the visits, never at the signal), and settles at the
    asymptotically best rate :math:`(2D/\sigma)^{2/3}`; the factor 2 is what makes it so, since today's gain also fixes
    tomorrow's bias. The standard error is :math:`D\,lag + \sigma\sqrt{noise}`: it covers a drift that reacts to the
    estimates, but not visits that depend on the noise, under which no certificate of this kind holds.

    >>> from aria.statistics import one_each
    >>> tracker = CertificateGain(sigma=1.0, drift=0.05)
    >>> state = tracker.init((1,))
    >>> for _ in range(200):
    ...     state = tracker.update(state, one_each([1.0]))
    >>> lag, noise = tracker.certificate(state)[1:]
    >>> round(float((0.05 * lag) ** 2 + noise), 4)  # worst mean squared error; the best EMA reaches 0.1504
    0.1506
    """

    sigma: float
    drift: float

    def __post_init__(self) -> None:
        checks.positive("sigma", self.sigma)
        checks.non_negative("drift", self.drift)

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        return recursion.init(shape, device)

    def update(self, state: State, stats: RegionStats) -> State:
        doubt = 2 * (self.drift * (state["lag"] + 1)) ** 2 + self.sigma**2 * state["noise"]  # (..., K)
        gain = doubt / (doubt + self.sigma**2 / stats.n.clamp(min=1))
        return recursion.update(state, stats, gain.maximum(recursion.unseen(state)) * recursion.seen(stats))

    def estimate(self, state: State) -> Estimate:
        noise = recursion.root_or_inf(self.sigma**2 * state["noise"], evidence=state["noise"])
        return Estimate(state["value"], self.drift * state["lag"] + noise)

    def certificate(self, state: State) -> Certificate:
        return recursion.certificate(state)

    @classmethod
    def examples(cls) -> Iterable[CertificateGain]:
        return cls(sigma=1.0, drift=0.05), cls(sigma=0.3, drift=0.0)
