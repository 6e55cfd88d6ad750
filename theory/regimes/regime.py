"""A regime: a drift, a noise and a visit process, and where the truth starts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aria import checks
from aria.interfaces import Device
from theory.regimes.base import Drift, Noise, Visits
from theory.regimes.drift import Stationary
from theory.regimes.noise import Gaussian
from theory.regimes.visits import EveryStep


@dataclass(frozen=True)
class Regime:
    """A drift, a noise and a visit process, and the level at which the truth starts: one for all regions or one each.

    >>> from theory.regimes import Bernoulli, Linear, Rademacher
    >>> regime = Regime(Linear(0.01), Rademacher(sigma=0.5), Bernoulli(0.2))
    >>> regime.bound, regime.sigma, regime.least, regime.adaptive
    (0.01, 0.5, 0.2, False)
    """

    drift: Drift = field(default_factory=Stationary)
    noise: Noise = field(default_factory=Gaussian)
    visits: Visits = field(default_factory=EveryStep)
    level: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        for name, kind in (("drift", Drift), ("noise", Noise), ("visits", Visits)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name} must be a {kind.__name__}, got {getattr(self, name)!r}")
        if not self.levels or not all(math.isfinite(level) for level in self.levels):
            raise ValueError(f"level must be a finite number or a tuple of them, one per region, got {self.level!r}")

    @property
    def levels(self) -> tuple[float, ...]:
        """The level of each region, or the one that all share."""
        return self.level if isinstance(self.level, tuple) else (float(self.level),)

    @property
    def regions(self) -> int | None:
        """The number of regions if the levels determine it."""
        return len(self.level) if isinstance(self.level, tuple) else None

    @property
    def bound(self) -> float:
        """D, the largest move of the truth; ``inf`` if there is no bound."""
        return max(self.drift.bound(level) for level in self.levels)

    @property
    def sigma(self) -> float:
        """Bound on the standard deviation of one observation."""
        return self.noise.sigma

    @property
    def least(self) -> float:
        """q, the smallest visit probability."""
        return self.visits.least

    @property
    def adaptive(self) -> bool:
        """Whether any part depends on past estimates, so that bounds for oblivious regimes do not hold."""
        return self.drift.adaptive or self.noise.adaptive or self.visits.adaptive

    def start(self, regions: int, device: Device = None) -> Tensor:
        """(1, K) the truth before the first step."""
        checks.whole("regions", regions, least=1)
        if self.regions not in (None, regions):
            raise ValueError(f"regions must be {self.regions}, one per level, got {regions}")
        levels = torch.tensor(self.levels, dtype=torch.float64, device=device)
        return (levels + self.drift.offset).expand(1, regions).clone()
