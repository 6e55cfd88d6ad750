r"""The parts of a regime: how the truth moves, what noise hides it, and which regions are visited when.

Step :math:`t = 1, 2, \dots` runs in this order, with :math:`F_{t-1}` all that was observed before it:

1. the visit probabilities :math:`q_t` follow from :math:`F_{t-1}`, and the counts :math:`n_t` are drawn with them;
2. the truth moves, :math:`\mu_t = \mu_{t-1} + d_t`, where :math:`d_t` may look at :math:`F_{t-1}` and :math:`q_t`;
3. visited regions show :math:`\bar y_t = \mu_t + \epsilon_t/\sqrt{n_t}` and the tracker moves to :math:`m_t`.

The filtering error is :math:`e_t = m_t - \mu_t`, the prediction error :math:`p_t = m_{t-1} - \mu_t`.

A part is a frozen dataclass: hyper-parameters only. Its memory is passed in and returned, never changed in place, and
so is the source of its randomness. What it returns has a shape that broadcasts to ``(R, K)``, replicas and regions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, NamedTuple, Self

from torch import Tensor

from aria.interfaces import Device, Estimate, State
from theory.regimes.randomness import Random


class Past(NamedTuple):
    """What a part of a regime may look at. Tensors broadcast to (R, K)."""

    step: int
    """The step being made, from 1."""
    truth: Tensor
    """The truth as it stands: before the move of this step for visits and drift, after it for noise."""
    estimate: Estimate | None = None
    """What the tracker believed after the last step; only in adaptive regimes."""
    visit: Tensor | None = None
    """Probability that this step visits each region; not yet known to visits."""

    @property
    def error(self) -> Tensor:
        """(R, K) last estimate minus truth: e_{t-1} for visits and drift, the prediction error p_t for noise."""
        return self.believed.value - self.truth

    @property
    def believed(self) -> Estimate:
        """The last estimate; refused to parts that did not say they are adaptive."""
        if self.estimate is None:
            raise ValueError("estimates are shown to adaptive parts only: set the class attribute adaptive = True")
        return self.estimate

    @property
    def effort(self) -> Tensor:
        """The visit probability of this step."""
        if self.visit is None:
            raise ValueError("visits are being decided: their probabilities are known to drift and noise only")
        return self.visit


class Seen(NamedTuple):
    """Which regions a step visits. Tensors broadcast to (R, K)."""

    n: Tensor
    """Number of observations."""
    visit: Tensor
    """Probability, given the past, that there is at least one."""


class Process:
    """A part of a regime."""

    adaptive: ClassVar[bool] = False
    """Whether it looks at past estimates or errors. Bounds for oblivious regimes do not hold where one part does."""

    def init(self, shape: tuple[int, int], device: Device = None) -> State:
        """The memory before the first step; ``shape`` is (R, K)."""
        return {}

    @classmethod
    def examples(cls) -> Iterable[Self]:
        """Instances for the conformance checks; override where there are arguments without default."""
        return (cls(),)


class Drift(Process, ABC):
    """How the truth moves."""

    @abstractmethod
    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor | float, State]:
        """The move d_t of this step and the new memory."""

    @abstractmethod
    def bound(self, level: float = 0.0) -> float:
        """What no |d_t| exceeds if the truth starts at ``level``; ``inf`` where there is no such bound."""

    @property
    def offset(self) -> float:
        """Where the truth starts, relative to its level."""
        return 0.0

    def mean_move(self, step: int) -> float | None:
        """E d_t where the moves are independent of each other and of all else; None where they are not."""
        return None

    @property
    def variance(self) -> float:
        """Var d_t where :meth:`mean_move` is known."""
        return 0.0


class Path(Drift):
    """A truth that moves along one line known beforehand."""

    @abstractmethod
    def move(self, step: int) -> float:
        """The move d_t."""

    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor | float, State]:
        return self.move(past.step), state

    def mean_move(self, step: int) -> float | None:
        return self.move(step)


class Noise(Process, ABC):
    r"""What hides the truth.

    .. math:: E[\epsilon_t\mid F_{t-1}] = 0, \qquad E[\epsilon_t^2\mid F_{t-1}] \le \sigma^2

    ``step`` gives the noise of one observation. The mean of a visit's n observations gets :math:`\epsilon/\sqrt n`:
    the right mean and variance for any noise, the right law for normal noise.
    """

    sigma: float
    """Bound on the standard deviation of one observation."""
    symmetric: ClassVar[bool] = True
    """Whether ε and -ε have one law."""

    @abstractmethod
    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor, State]:
        """The noise of this step and the new memory."""

    @property
    def reach(self) -> float:
        """What no |ε| exceeds; ``inf`` where there is no such bound."""
        return math.inf

    @property
    def sub_gaussian(self) -> float:
        r"""An s with :math:`E e^{x\epsilon} \le e^{x^2s^2/2}` for all x; ``inf`` where there is none."""
        return self.reach  # Hoeffding: half the length of the interval

    def scale(self, step: int) -> float | None:
        """Standard deviation at a step where it is known beforehand; None where the noise looks at errors."""
        return self.sigma


class Visits(Process, ABC):
    """Which regions are observed when, and how often."""

    shared: ClassVar[bool] = False
    """Whether every replica is visited alike, so that what does not depend on signals is the same in all."""
    batched: ClassVar[bool] = False
    """Whether there can be more than one observation a visit."""

    @abstractmethod
    def step(self, state: State, past: Past, random: Random) -> tuple[Seen, State]:
        """The visits of this step and the new memory."""

    @property
    @abstractmethod
    def least(self) -> float:
        """What no visit probability is below."""
