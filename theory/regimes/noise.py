"""The noise of observations: normal, two-valued, heavy-tailed, sparse, of changing size, and adversarial."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from aria import checks
from aria.interfaces import Device, State
from theory.regimes.base import Noise, Past
from theory.regimes.randomness import Random, next_word, signed


@dataclass(frozen=True)
class Gaussian(Noise):
    """Normal noise; ``sigma=0`` means none.

    >>> Gaussian(sigma=0.5).sub_gaussian
    0.5
    """

    sigma: float = 1.0

    def __post_init__(self) -> None:
        checks.non_negative("sigma", self.sigma)

    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor, State]:
        return random.normal().mul_(self.sigma), state

    @property
    def sub_gaussian(self) -> float:
        return self.sigma


@dataclass(frozen=True)
class Rademacher(Noise):
    """±sigma with equal probability, one random bit each: fast, and variance exactly sigma², so equalities hold.

    >>> Rademacher(sigma=0.5).reach
    0.5
    """

    sigma: float = 1.0

    def __post_init__(self) -> None:
        checks.positive("sigma", self.sigma)

    def init(self, shape: tuple[int, int], device: Device = None) -> State:
        return {"word": torch.zeros(shape, dtype=torch.int64, device=device)}

    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor, State]:
        word = next_word(state["word"], past.step, random)
        return signed(word, self.sigma), {"word": word}

    @property
    def reach(self) -> float:
        return self.sigma


@dataclass(frozen=True)
class StudentT(Noise):
    r"""Heavy tails: Student's distribution scaled to variance sigma². With ``freedom=3`` there is no third moment.

    Bounds on the mean squared error hold; sub-Gaussian confidence radii do not.

    >>> StudentT(freedom=3.0).sub_gaussian
    inf
    """

    sigma: float = 1.0
    freedom: float = 3.0

    def __post_init__(self) -> None:
        checks.positive("sigma", self.sigma)
        if not 2 < self.freedom < math.inf:
            raise ValueError(f"freedom must be finite and above 2 (finite variance), got {self.freedom!r}")

    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor, State]:
        return random.student(self.freedom).mul_(self.sigma * math.sqrt((self.freedom - 2) / self.freedom)), state

    @classmethod
    def examples(cls) -> Iterable[StudentT]:
        return cls(), cls(0.5, freedom=5.0)


@dataclass(frozen=True)
class Sparse(Noise):
    r"""Zero, except with probability ``chance`` a shock of :math:`\pm\sigma/\sqrt{chance}`: variance sigma².

    >>> Sparse(sigma=1.0, chance=0.01).reach
    10.0
    """

    sigma: float = 1.0
    chance: float = 0.01

    def __post_init__(self) -> None:
        checks.positive("sigma", self.sigma)
        checks.half_open_unit("chance", self.chance)

    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor, State]:
        u = random.uniform()
        up, shock = u < self.chance / 2, u < self.chance
        return (2 * up.double() - shock.double()).mul_(self.reach), state

    @property
    def reach(self) -> float:
        return self.sigma / math.sqrt(self.chance)

    @classmethod
    def examples(cls) -> Iterable[Sparse]:
        return cls(), cls(0.3, chance=0.5)


@dataclass(frozen=True)
class Heteroscedastic(Noise):
    r"""Normal noise whose standard deviation oscillates between ``low`` and ``sigma``.

    .. math:: s_t = low + (\sigma - low)\,\sin^2(\pi t/period)

    The variance of a linear tracker is :math:`\sum_j w_j^2 s_{t-j}^2`, less than with the largest standard deviation.

    >>> noise = Heteroscedastic(sigma=1.0, low=0.2, period=10)
    >>> round(noise.scale(5), 3), round(noise.scale(10), 3)
    (1.0, 0.2)
    """

    sigma: float = 1.0
    low: float = 0.2
    period: float = 50.0

    def __post_init__(self) -> None:
        checks.positive("sigma", self.sigma)
        checks.non_negative("low", self.low)
        checks.positive("period", self.period)
        if self.low > self.sigma:
            raise ValueError(f"low must be at most sigma={self.sigma}, got {self.low!r}")

    def scale(self, step: int) -> float:
        return self.low + (self.sigma - self.low) * math.sin(math.pi * step / self.period) ** 2

    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor, State]:
        return random.normal().mul_(self.scale(past.step)), state

    @property
    def sub_gaussian(self) -> float:
        return self.sigma


@dataclass(frozen=True)
class TwoPoint(Noise):
    r"""The noise that keeps the error under an adversary as large as noise of variance sigma² can, at every step.

    Against an EMA of ``rate`` b visited at every step, with prediction error :math:`p` and gain
    :math:`r = b/(1-(1-b)^t)`,

    .. math:: A = (1-r)\,p, \quad c = \sqrt{A^2 + r^2\sigma^2}, \quad
              \epsilon = (\pm c - A)/r \ \text{ with } P(+) = (1 + A/c)/2

    has mean 0 and variance :math:`\sigma^2`, and the new error is :math:`\pm c` with certainty. With the drift
    :class:`~theory.regimes.SignAdversary` the size of the error follows T3-A with equality and settles at its fixed
    point.

    >>> from aria.interfaces import Estimate
    >>> past = Past(1000, torch.zeros(1, 1), Estimate(torch.full((1, 1), 3.0), torch.zeros(1, 1)))
    >>> noise, _ = TwoPoint(sigma=1.0, rate=0.5).step({}, past, Random(0, (1, 1)))
    >>> abs(float(0.5 * 3.0 + 0.5 * noise))  # √(1.5² + 0.5²)
    1.5811
    """

    adaptive = True
    symmetric = False
    sigma: float = 1.0
    rate: float = 0.1

    def __post_init__(self) -> None:
        checks.positive("sigma", self.sigma)
        checks.half_open_unit("rate", self.rate)

    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor, State]:
        gain = 1.0 if self.rate == 1 else self.rate / -math.expm1(past.step * math.log1p(-self.rate))
        kept = past.error * (1 - gain)  # A
        size = (kept * kept + (gain * self.sigma) ** 2).sqrt_()  # c
        sign = torch.copysign(size, (1 + kept / size) / 2 - random.uniform())
        return (sign - kept) / gain, state

    @property
    def sub_gaussian(self) -> float:
        return math.inf

    def scale(self, step: int) -> None:
        return None
