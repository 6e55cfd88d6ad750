"""A running regime: its truth, the state of its parts, and the observations that a tracker gets at each step."""

from __future__ import annotations

import torch
from torch import Tensor

from aria.interfaces import Estimate, RegionStats
from theory.regimes import Past, Random, Regime, Seen


class World:
    """R replicas of K regions of a regime, in the order of :mod:`theory.regimes.base`; ``random`` has shape (R, K).

    With ``one_row`` whatever is common to all replicas is returned as a single row.

    >>> from theory.regimes import Linear
    >>> world = World(Regime(Linear(0.5)), Random(seed=0, shape=(3, 1)))
    >>> stats = world.step(None)
    >>> world.truth, stats.n.shape
    (tensor([[0.5000]], dtype=torch.float64), torch.Size([3, 1]))
    """

    def __init__(self, regime: Regime, random: Random, *, one_row: bool = False) -> None:
        shape = random.shape
        self.regime, self.random = regime, random
        self.truth = regime.start(shape[1], random.device)
        """Truth after the last step, never changed in place; broadcasts to (R, K)."""
        self._visits, self._drift, self._noise = (
            part.init(shape, random.device) for part in (regime.visits, regime.drift, regime.noise)
        )
        self._observe = _Observer(regime, None if one_row else shape)
        self._step = 0

    def step(self, estimate: Estimate | None) -> RegionStats:
        """Make a step and return its observations; the last ``estimate`` is used by adaptive regimes only."""
        self._step += 1
        regime, random = self.regime, self.random
        past = Past(self._step, self.truth, estimate if regime.adaptive else None)
        seen, self._visits = regime.visits.step(self._visits, past, random)
        move, self._drift = regime.drift.step(self._drift, past._replace(visit=seen.visit), random)
        self.truth = self.truth + move
        noise, self._noise = regime.noise.step(self._noise, past._replace(truth=self.truth, visit=seen.visit), random)
        return self._observe(self.truth, noise, seen)


class _Observer:
    """Turns truth, noise and visits into the sums that a tracker gets."""

    def __init__(self, regime: Regime, shape: tuple[int, int] | None) -> None:
        self.shape = shape  # None keeps whatever is common to all replicas as one row
        self.shared, self.batched = regime.visits.shared, regime.visits.batched
        self.variance = regime.sigma**2
        self._raw: Tensor | None = None
        self._count: Tensor = torch.empty(0)
        self._single = False

    def __call__(self, truth: Tensor, noise: Tensor, seen: Seen) -> RegionStats:
        n = self._counted(seen.n)
        visit = seen.visit if self.shape is None else seen.visit.expand(self.shape)
        if self._single:
            y = torch.add(truth, noise)
            return RegionStats(n, y, y * y, visit)
        if not self.batched:  # n is 0 or 1
            total = torch.add(truth, noise).mul_(n)
            return RegionStats(n, total, total * total, visit)
        mean = torch.addcmul(truth, noise, n.clamp(min=1).rsqrt_())
        total = mean * n
        spread = (n - 1).clamp_(min=0).mul_(self.variance)  # expected squares within the batch
        return RegionStats(n, total, torch.addcmul(spread, total, mean), visit)

    def _counted(self, count: Tensor) -> Tensor:
        """Counts in the shape that the tracker needs; counts that stay the same are examined once."""
        if not self.shared:
            return count
        if count is not self._raw:
            self._raw, self._single = count, bool((count == 1).all())
            self._count = count if self.shape is None else count.expand(self.shape).contiguous()
        return self._count
