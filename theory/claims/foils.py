"""Trackers that are not shipped and that some claims compare with."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from aria.interfaces import Certificate, Device, Estimate, RegionStats, State, Tracker
from theory.bounds import triangular_profile


@dataclass(frozen=True)
class Remembering(Tracker):
    """Keeps the latest observations by age, 0 if there was none, and weights them by the ramp (``width`` - age)_+."""

    width: float

    def _ramp(self) -> Tensor:
        """(H,) the ramp, the newest first."""
        return self.width - torch.arange(math.ceil(self.width), dtype=torch.float64)

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        return {"latest": torch.zeros((*shape, math.ceil(self.width)), dtype=torch.float64, device=device)}

    def update(self, state: State, stats: RegionStats) -> State:
        mean = stats.total / stats.n.clamp(min=1)
        return {"latest": torch.cat([mean[..., None], state["latest"][..., :-1]], -1)}

    @abstractmethod
    def estimate(self, state: State) -> Estimate: ...


@dataclass(frozen=True)
class Triangular(Remembering):
    """The best linear tracker of T15-lin, at the width of :func:`theory.limits.linear_limit_width`."""

    def estimate(self, state: State) -> Estimate:
        ramp = self._ramp()
        value = state["latest"] @ (ramp / ramp.sum())
        return Estimate(value, torch.full_like(value, float(self._profile.noise) ** 0.5))

    @property
    def _profile(self) -> Certificate:
        start, lag, noise, _ = triangular_profile(self.width)
        return Certificate(*(torch.tensor(part, dtype=torch.float64) for part in (start, lag, noise)))

    def certificate(self, state: State) -> Certificate:
        return self._profile


@dataclass(frozen=True)
class BayesRule(Remembering):
    r"""For a truth of ±f with equal probability, :math:`f_j = slope\,(width - j)_+`: :math:`f_0\tanh\sum_j f_jy_j/s^2`.

    No tracker has a smaller error on these two paths (T15).
    """

    slope: float
    sigma: float = 1.0

    def estimate(self, state: State) -> Estimate:
        path, top = self.slope * self._ramp(), self.slope * self.width
        belief = (state["latest"] @ path / self.sigma**2).tanh()
        return Estimate(top * belief, top * (1 - belief**2).sqrt())


@dataclass(frozen=True)
class WeightedEMA(Tracker):
    r"""Importance weights on the observations themselves: :math:`m \leftarrow (1-b)m + b\,1_ty/q` (T14 i).

    It does not estimate its error: its standard error is 0.
    """

    rate: float

    @property
    def uses_visit(self) -> bool:
        return True

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        return {"value": torch.zeros(shape, dtype=torch.float64, device=device)}

    def update(self, state: State, stats: RegionStats) -> State:
        return {"value": torch.lerp(state["value"], stats.total / stats.visit, self.rate)}

    def estimate(self, state: State) -> Estimate:
        return Estimate(state["value"], torch.zeros_like(state["value"]))
