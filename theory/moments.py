r"""Exact moments of a linear tracker's error, without Monte Carlo.

The weights :math:`w_j` that a tracker gives to observations of age j are measured on the shipped class with impulses.
With them the error in a regime with visits at every step and independent moves is known exactly (T0):

.. math:: E e_T = \sum_j w_j(\bar\mu_{T-j} - \bar\mu_T), \qquad
          Var(e_T) = \sum_j w_j^2 s_{T-j}^2/n + \sum_{i\ge1} T_i^2\,\tau_{T-i+1}^2, \qquad T_i = \sum_{j\ge i} w_j .
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from aria import checks
from aria.interfaces import RegionStats, Tracker
from theory.regimes import EveryStep, Regime


class Exact(NamedTuple):
    """Moments of one error, (K,) or scalar float64 tensors."""

    mean: Tensor
    variance: Tensor

    @property
    def square(self) -> Tensor:
        """The mean square."""
        return self.mean**2 + self.variance


def weights(tracker: Tracker, steps: int, batch: int = 1) -> Tensor:
    """(T,) weight of the observation of each age 0 … T-1 in the estimate after ``steps`` visits in as many steps.

    >>> from aria.trackers import EMA
    >>> weights(EMA(rate=0.5), steps=3)  # 4, 2 and 1 of 7
    tensor([0.5714, 0.2857, 0.1429], dtype=torch.float64)
    """
    checks.whole("steps", steps, least=1)
    if tracker.certificate(tracker.init((1,))) is None:
        raise ValueError(f"tracker must be linear (gains independent of the signal); {tracker!r} has no certificate")
    state = tracker.init((steps, 1))
    n = torch.full((steps, 1), float(batch), dtype=torch.float64)
    for step in range(steps):  # replica i gets a 1 at step i and 0 otherwise
        mean = torch.zeros_like(n)
        mean[step] = 1
        state = tracker.update(state, RegionStats(n, n * mean, n * mean, torch.ones_like(n)))
    return tracker.estimate(state).value[:, 0].flip(0)


def exact(tracker: Tracker, regime: Regime, steps: int) -> Exact:
    """Mean and variance of the filtering error e_T; the prediction error is that of :func:`exact_prediction`.

    >>> from aria.trackers import EMA
    >>> from theory.regimes import Linear
    >>> float(exact(EMA(rate=0.1), Regime(Linear(0.05)), steps=500).square)  # (D(1-b)/b)² + b/(2-b)
    0.25513
    """
    w, means, variances, noise = _pieces(tracker, regime, steps)
    moved = means.cumsum(0)  # (T,) mean truth after each step, minus the start
    path = moved.flip(0)  # by age
    tails = w.flip(0).cumsum(0).flip(0)  # T_i for i = 0 … T-1
    walk = (tails[1:] ** 2 * variances.flip(0)[:-1]).sum()
    return Exact((w * (path - path[0])).sum(), (w**2 * noise.flip(0)).sum() + walk)


def exact_prediction(tracker: Tracker, regime: Regime, steps: int) -> Exact:
    """Mean and variance of the prediction error p_T = e_{T-1} - d_T, for T of at least 2.

    >>> from aria.trackers import EMA
    >>> from theory.regimes import Linear
    >>> float(exact_prediction(EMA(rate=0.1), Regime(Linear(0.05)), steps=500).square)  # (D/b)² + b/(2-b)
    0.30263
    """
    checks.whole("steps", steps, least=2)
    before = exact(tracker, regime, steps - 1)
    move = regime.drift.mean_move(steps)
    assert move is not None  # exact() raises for such a drift
    return Exact(before.mean - move, before.variance + regime.drift.variance)


def _pieces(tracker: Tracker, regime: Regime, steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(T,) each: weights by age; mean and variance of the moves, and variance of the noise, by step."""
    if not isinstance(regime.visits, EveryStep) or regime.adaptive or regime.drift.mean_move(1) is None:
        raise ValueError(f"regime must have independent moves, visits every step and nothing adaptive, got {regime!r}")
    w = weights(tracker, steps, regime.visits.batch)
    times = range(1, steps + 1)
    means = torch.tensor([regime.drift.mean_move(step) for step in times], dtype=torch.float64)
    variances = torch.full((steps,), regime.drift.variance, dtype=torch.float64)
    scales = torch.tensor([regime.noise.scale(step) for step in times], dtype=torch.float64)
    return w, means, variances, scales**2 / regime.visits.batch
