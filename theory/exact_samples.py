r"""Samples of the final error drawn directly from its exact distribution, where that is known, instead of simulated.

Each function draws from the distribution of the ``filtering`` error of :func:`theory.simulate.simulate` without making
any steps, which is thousands of times faster.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aria import checks
from aria.interfaces import Tracker
from aria.samplers import draws
from aria.threads import one_thread
from theory import moments
from theory.regimes import Gaussian, Heteroscedastic, Path, Random, RandomWalk, Regime
from theory.simulate import BLOCK

DEPTH = 1e-17
"""Ages whose weight in the lag is below this are ignored."""


def synchronous(tracker: Tracker, regime: Regime, *, steps: int, replicas: int, seed: int = 0) -> Tensor:
    r"""(R,) filtering errors :math:`e_T \sim N(E e_T, Var(e_T))` of a linear tracker visited at every step.

    Exact for normal noise of any known scale on a path fixed in advance or on a normal random walk. The moments are
    those of :func:`theory.moments.exact`, computed from the shipped tracker.

    >>> from aria.trackers import EMA
    >>> from theory.regimes import Linear
    >>> errors = synchronous(EMA(rate=0.1), Regime(Linear(0.05)), steps=500, replicas=100_000)
    >>> round(float(errors.mean()), 2), round(float(errors.var()), 3)  # -D(1-b)/b and b/(2-b)
    (-0.45, 0.052)
    """
    checks.whole("replicas", replicas, least=1)
    known = isinstance(regime.drift, Path) or (isinstance(regime.drift, RandomWalk) and regime.drift.gaussian)
    if not known or not isinstance(regime.noise, Gaussian | Heteroscedastic):
        raise ValueError(f"regime must have normal noise over a known path or a normal random walk, got {regime!r}")
    with one_thread():
        law = moments.exact(tracker, regime, steps)
    errors = Random(draws.step_seed(seed, 0), (replicas, 1)).normal()[:, 0]
    return errors.mul_(math.sqrt(law.variance)).add_(float(law.mean))


def asynchronous(
    rate: float, slope: float, sigma: float, probability: float, *, replicas: int, seed: int = 0
) -> Tensor:
    r"""(R,) steady filtering errors of an EMA on a line, with Bernoulli visits and normal noise (T10).

    .. math:: e \mid L \sim N(-slope\,L,\ \sigma^2 b/(2-b)), \qquad L = A + \sum_{i\ge1} a^i G_i, \qquad a = 1 - b

    with gaps :math:`G_i` geometric with mean 1/q and the age :math:`A` of the latest visit one less than such a gap.

    >>> errors = asynchronous(rate=0.2, slope=0.1, sigma=1.0, probability=0.5, replicas=100_000)
    >>> round(float(errors.mean()), 2)  # -slope (1/(bq) - 1)
    -0.9
    """
    checks.half_open_unit("rate", rate)
    checks.half_open_unit("probability", probability)
    checks.non_negative("sigma", sigma)
    checks.whole("replicas", replicas, least=1)
    parts = []
    with one_thread():
        for block, first in enumerate(range(0, replicas, BLOCK)):
            random = Random(draws.step_seed(seed, block), (min(BLOCK, replicas - first), 1))
            lag = _lag(1 - rate, probability, random).mul_(-slope)
            parts.append(lag.add_(random.normal(), alpha=sigma * math.sqrt(rate / (2 - rate)))[:, 0])
    return torch.cat(parts)


def _lag(keep: float, probability: float, random: Random) -> Tensor:
    """(R, 1) mean ages of the information: L ← a(L + G) at each of many visits, then the age of the latest visit."""
    lag = torch.zeros(random.shape, dtype=torch.float64, device=random.device)
    depth = math.ceil(math.log(DEPTH) / math.log(keep)) if keep > 0 else 1
    for _ in range(depth):
        lag.add_(_failures(probability, random)).add_(1).mul_(keep)
    return lag.add_(_failures(probability, random))


def _failures(probability: float, random: Random) -> Tensor:
    """(R, 1) failures before the first success, from an exponential number: floor(E / -ln(1-q))."""
    if probability == 1:
        return torch.zeros(random.shape, dtype=torch.float64, device=random.device)
    return random.exponential().div_(-math.log1p(-probability)).floor_()
