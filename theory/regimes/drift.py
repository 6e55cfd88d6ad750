"""How the truth moves: on a fixed path, at random, in response to training, or against the tracker."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from aria import checks
from aria.interfaces import Device, State
from theory.regimes.base import Drift, Past, Path
from theory.regimes.randomness import Random, next_word, signed


def _finite(name: str, value: float) -> None:
    if isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")


def _zero_words(shape: tuple[int, int], device: Device) -> State:
    return {"word": torch.zeros(shape, dtype=torch.int64, device=device)}


# ------------------------------------------------------------------------------------------------- fixed in advance


@dataclass(frozen=True)
class Stationary(Path):
    """A truth that does not move.

    >>> Stationary().bound()
    0.0
    """

    def move(self, step: int) -> float:
        return 0.0

    def bound(self, level: float = 0.0) -> float:
        return 0.0


@dataclass(frozen=True)
class Linear(Path):
    r"""The worst oblivious drift, for which T1 holds with equality: :math:`d_t = slope`.

    >>> Linear(slope=-0.5).bound()
    0.5
    """

    slope: float

    def __post_init__(self) -> None:
        _finite("slope", self.slope)

    def move(self, step: int) -> float:
        return self.slope

    def bound(self, level: float = 0.0) -> float:
        return abs(self.slope)

    @classmethod
    def examples(cls) -> Iterable[Linear]:
        return cls(0.02), cls(-0.3)


@dataclass(frozen=True)
class Sinusoid(Path):
    r"""A sine wave: :math:`\mu_t = level + A\sin\omega t`.

    So :math:`|d_t| \le 2A\sin(\omega/2)` for :math:`\omega\le\pi`.

    >>> round(Sinusoid(amplitude=1.0, frequency=0.1).bound(), 4)  # a little less than Aω
    0.1000
    """

    amplitude: float
    frequency: float

    def __post_init__(self) -> None:
        checks.positive("amplitude", self.amplitude)
        if not 0 < self.frequency <= math.pi:
            raise ValueError(f"frequency must lie in (0, π], in radians a step, got {self.frequency!r}")

    def move(self, step: int) -> float:
        half = self.frequency / 2
        return 2 * self.amplitude * math.sin(half) * math.cos(self.frequency * step - half)

    def bound(self, level: float = 0.0) -> float:
        return 2 * self.amplitude * math.sin(self.frequency / 2)

    @classmethod
    def examples(cls) -> Iterable[Sinusoid]:
        return cls(1.0, 0.05), cls(0.3, math.pi)


@dataclass(frozen=True)
class Decay(Path):
    r"""Exponential decay, as of a training loss: :math:`\mu_t = level + C r^t`, :math:`|d_t| \le C(1-r)`.

    >>> decay = Decay(size=2.0, ratio=0.5)
    >>> decay.offset + decay.move(1) + decay.move(2)
    0.5
    """

    size: float
    ratio: float

    def __post_init__(self) -> None:
        checks.positive("size", self.size)
        checks.open_unit("ratio", self.ratio)

    @property
    def offset(self) -> float:
        return self.size

    def move(self, step: int) -> float:
        return -self.size * (1 - self.ratio) * self.ratio ** (step - 1)

    def bound(self, level: float = 0.0) -> float:
        return self.size * (1 - self.ratio)

    @classmethod
    def examples(cls) -> Iterable[Decay]:
        return cls(1.0, 0.98), cls(3.0, 0.5)


@dataclass(frozen=True)
class Jump(Path):
    """One jump of ``size`` at step ``at``, constant before and after: k visits later an EMA is still off by J·a^k.

    >>> Jump(size=3.0, at=10).move(10)
    3.0
    """

    size: float
    at: int

    def __post_init__(self) -> None:
        _finite("size", self.size)
        checks.whole("at", self.at, least=1)

    def move(self, step: int) -> float:
        return self.size if step == self.at else 0.0

    def bound(self, level: float = 0.0) -> float:
        return abs(self.size)

    @classmethod
    def examples(cls) -> Iterable[Jump]:
        return cls(1.0, at=5), cls(-2.0, at=1)


# -------------------------------------------------------------------------------------------------------- at random


@dataclass(frozen=True)
class RandomWalk(Drift):
    r"""Independent steps :math:`d_t = trend + \xi_t` of variance ``size``², for which T2 holds with equality.

    :math:`\xi = \pm size` with equal probability, so that :math:`|d_t| \le |trend| + size`; or normal, unbounded.

    >>> RandomWalk(size=0.1, trend=0.5).bound()
    0.6
    """

    size: float
    trend: float = 0.0
    gaussian: bool = False

    def __post_init__(self) -> None:
        checks.positive("size", self.size)
        _finite("trend", self.trend)

    def init(self, shape: tuple[int, int], device: Device = None) -> State:
        return {} if self.gaussian else _zero_words(shape, device)

    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor | float, State]:
        if self.gaussian:
            return random.normal().mul_(self.size).add_(self.trend), state
        word = next_word(state["word"], past.step, random)
        return signed(word, self.size).add_(self.trend), {"word": word}

    def bound(self, level: float = 0.0) -> float:
        return math.inf if self.gaussian else abs(self.trend) + self.size

    def mean_move(self, step: int) -> float | None:
        return self.trend

    @property
    def variance(self) -> float:
        return self.size**2

    @classmethod
    def examples(cls) -> Iterable[RandomWalk]:
        return cls(0.1), cls(0.05, trend=-0.1), cls(0.1, gaussian=True)


@dataclass(frozen=True)
class ReflectedWalk(Drift):
    r"""A bounded random walk: steps of ±``size``, reflected at level ± ``width``; \|d\| ≤ size still holds.

    >>> ReflectedWalk(size=0.1, width=1.0).bound()
    0.1
    """

    size: float
    width: float

    def __post_init__(self) -> None:
        checks.positive("size", self.size)
        checks.positive("width", self.width)
        if self.size > self.width:
            raise ValueError(f"size must be at most width={self.width}, got {self.size!r}")

    def init(self, shape: tuple[int, int], device: Device = None) -> State:
        return _zero_words(shape, device) | {"place": torch.zeros(shape, dtype=torch.float64, device=device)}

    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor | float, State]:
        word = next_word(state["word"], past.step, random)
        free = state["place"] + signed(word, self.size)
        inside = free.clamp(-self.width, self.width)
        place = inside.mul_(2).sub_(free)  # reflected: as far inside the wall as the free step is beyond it
        return place - state["place"], {"word": word, "place": place}

    def bound(self, level: float = 0.0) -> float:
        return self.size

    @classmethod
    def examples(cls) -> Iterable[ReflectedWalk]:
        return cls(0.1, width=0.25), cls(0.3, width=0.3)


@dataclass(frozen=True)
class Jumps(Drift):
    """Jumps of ±``size`` with probability ``chance`` per step, else constant: independent moves, variance chance·size².

    >>> round(Jumps(size=2.0, chance=0.01).variance, 4)
    0.0400
    """

    size: float
    chance: float

    def __post_init__(self) -> None:
        checks.positive("size", self.size)
        checks.half_open_unit("chance", self.chance)

    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor | float, State]:
        u = random.uniform()
        up, moved = u < self.chance / 2, u < self.chance
        return (2 * up.double() - moved.double()).mul_(self.size), state

    def bound(self, level: float = 0.0) -> float:
        return self.size

    def mean_move(self, step: int) -> float | None:
        return 0.0

    @property
    def variance(self) -> float:
        return self.chance * self.size**2

    @classmethod
    def examples(cls) -> Iterable[Jumps]:
        return cls(2.0, chance=0.02), cls(0.5, chance=1.0)


# ------------------------------------------------------------------------------- adaptive: depends on visits or errors


@dataclass(frozen=True)
class ClosedLoop(Drift):
    r"""Training lowers what it visits: :math:`\mu_t = \mu_{t-1}(1 - c\,q_t)` (T13').

    It depends on the visit probabilities, so it is adaptive if they are. The truth starts at the level of the regime,
    and :math:`|d_t| \le c\,|level|`.

    >>> ClosedLoop(rate=0.01).bound(level=2.0)
    0.02
    """

    rate: float

    def __post_init__(self) -> None:
        checks.half_open_unit("rate", self.rate)

    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor | float, State]:
        return past.truth * past.effort * -self.rate, state

    def bound(self, level: float = 0.0) -> float:
        return self.rate * abs(level)

    @classmethod
    def examples(cls) -> Iterable[ClosedLoop]:
        return cls(0.05), cls(1.0)


@dataclass(frozen=True)
class EffortCoupled(Drift):
    r"""The worst drift that is caused by training alone: :math:`d_t = -D_1 q_t\,\mathrm{sign}(e_{t-1})` (T13').

    >>> EffortCoupled(size=0.1).bound()
    0.1
    """

    adaptive = True
    size: float

    def __post_init__(self) -> None:
        checks.positive("size", self.size)

    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor | float, State]:
        return past.error.sign_().mul_(past.effort).mul_(-self.size), state

    def bound(self, level: float = 0.0) -> float:
        return self.size

    @classmethod
    def examples(cls) -> Iterable[EffortCoupled]:
        return (cls(0.1),)


@dataclass(frozen=True)
class SignAdversary(Drift):
    r"""The drift that always increases the error: :math:`d_t = -D\,\mathrm{sign}(e_{t-1})`.

    With the noise :class:`~theory.regimes.TwoPoint` it attains the adaptive bound T3-A exactly; with normal noise it
    exceeds the oblivious bound T1. If the error is exactly 0 it moves up, so that it never stops.

    >>> from aria.interfaces import Estimate
    >>> past = Past(1, torch.tensor([0.0, 2.0]), Estimate(torch.tensor([1.0, 1.0]), torch.zeros(2)))
    >>> SignAdversary(size=0.5).step({}, past, Random(0, (1, 2)))[0]
    tensor([-0.5000,  0.5000])
    """

    adaptive = True
    size: float

    def __post_init__(self) -> None:
        checks.positive("size", self.size)

    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor | float, State]:
        return torch.copysign(torch.full_like(past.truth, self.size), -past.error), state

    def bound(self, level: float = 0.0) -> float:
        return self.size

    @classmethod
    def examples(cls) -> Iterable[SignAdversary]:
        return (cls(0.1),)
