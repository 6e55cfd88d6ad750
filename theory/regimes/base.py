r"""The parts of a regime: how the truth moves, what noise is added, and which regions are visited when.

Step :math:`t = 1, 2, \dots` runs in this order, where :math:`F_{t-1}` is everything observed before it:

1. the visit probabilities :math:`q_t` are computed from :math:`F_{t-1}`, and the counts :math:`n_t` are drawn;
2. the truth moves, :math:`\mu_t = \mu_{t-1} + d_t`, where :math:`d_t` may depend on :math:`F_{t-1}` and :math:`q_t`;
3. visited regions yield :math:`\bar y_t = \mu_t + \epsilon_t/\sqrt{n_t}` and the tracker updates to :math:`m_t`.

The filtering error is :math:`e_t = m_t - \mu_t`, the prediction error :math:`p_t = m_{t-1} - \mu_t`.

A part is a frozen dataclass that holds hyper-parameters only. Its state is passed in and returned, never changed in
place; random numbers come from a generator that is passed in. Returned tensors broadcast to ``(R, K)``, replicas and
regions.
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
    """What a part of a regime may depend on. Tensors broadcast to (R, K)."""

    step: int
    """The current step, counted from 1."""
    truth: Tensor
    """The current truth: before the move of this step for visits and drift, after it for noise."""
    estimate: Estimate | None = None
    """The tracker's estimate after the last step; only in adaptive regimes."""
    visit: Tensor | None = None
    """Probability that this step visits each region; None while the visits themselves are computed."""

    @property
    def error(self) -> Tensor:
        """(R, K) last estimate minus truth: e_{t-1} for visits and drift, the prediction error p_t for noise."""
        return self.last_estimate.value - self.truth

    @property
    def last_estimate(self) -> Estimate:
        """The last estimate; an error for parts that are not declared adaptive."""
        if self.estimate is None:
            raise ValueError("only adaptive parts may use estimates: set the class attribute adaptive = True")
        return self.estimate

    @property
    def effort(self) -> Tensor:
        """The visit probability of this step."""
        if self.visit is None:
            raise ValueError("visit probabilities are available to drift and noise only: visits are computed first")
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
    """Whether it depends on past estimates or errors. Bounds for oblivious regimes do not hold if one part does."""

    def init(self, shape: tuple[int, int], device: Device = None) -> State:
        """The state before the first step; ``shape`` is (R, K)."""
        return {}

    @classmethod
    def examples(cls) -> Iterable[Self]:
        """Instances for the conformance checks; override this if there are arguments without default."""
        return (cls(),)


class Drift(Process, ABC):
    """How the truth moves."""

    @abstractmethod
    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor | float, State]:
        """The move d_t of this step and the new state."""

    @abstractmethod
    def bound(self, level: float = 0.0) -> float:
        r"""Upper bound of \|d_t\| if the truth starts at ``level``; ``inf`` if there is none."""

    @property
    def offset(self) -> float:
        """Where the truth starts, relative to the level."""
        return 0.0

    def mean_move(self, step: int) -> float | None:
        """E d_t if the moves are independent of each other and of everything else; None if they are not."""
        return None

    @property
    def variance(self) -> float:
        """Var d_t if :meth:`mean_move` is known."""
        return 0.0


class Path(Drift):
    """A truth that follows a path fixed in advance."""

    @abstractmethod
    def move(self, step: int) -> float:
        """The move d_t."""

    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor | float, State]:
        return self.move(past.step), state

    def mean_move(self, step: int) -> float | None:
        return self.move(step)


class Noise(Process, ABC):
    r"""The noise of the observations.

    .. math:: E[\epsilon_t\mid F_{t-1}] = 0, \qquad E[\epsilon_t^2\mid F_{t-1}] \le \sigma^2

    ``step`` returns the noise of one observation. The mean of the n observations of a visit gets
    :math:`\epsilon/\sqrt n`, which has the right mean and variance for any noise and the right law for normal noise.
    """

    sigma: float
    """Bound on the standard deviation of one observation."""
    symmetric: ClassVar[bool] = True
    """Whether ε and -ε have the same law."""

    @abstractmethod
    def step(self, state: State, past: Past, random: Random) -> tuple[Tensor, State]:
        """The noise of this step and the new state."""

    @property
    def reach(self) -> float:
        r"""Upper bound of \|ε\|; ``inf`` if there is none."""
        return math.inf

    @property
    def sub_gaussian(self) -> float:
        r"""An s with :math:`E e^{x\epsilon} \le e^{x^2s^2/2}` for all x; ``inf`` if there is none."""
        return self.reach  # Hoeffding: half the length of the interval

    def scale(self, step: int) -> float | None:
        """Standard deviation at a step if it is known in advance; None if the noise depends on errors."""
        return self.sigma


class Visits(Process, ABC):
    """Which regions are observed at each step, and how often."""

    shared: ClassVar[bool] = False
    """Whether all replicas have the same visits, so that whatever does not depend on the signal is the same in all."""
    batched: ClassVar[bool] = False
    """Whether a visit can have more than one observation."""

    @abstractmethod
    def step(self, state: State, past: Past, random: Random) -> tuple[Seen, State]:
        """The visits of this step and the new state."""

    @property
    @abstractmethod
    def least(self) -> float:
        """Lower bound of the visit probability."""
