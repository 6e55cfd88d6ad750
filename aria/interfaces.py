"""The words every part of ARIA speaks: statistics in, estimates out, and the three abstract parts.

Shapes: ``K`` is the number of regions, ``B`` a batch, and ``...`` stands for any number of leading
replica axes, so that one tensor can carry thousands of independent runs of the same tracker.

Hyper-parameters live in frozen dataclasses; memory is a value (:data:`State`) that is passed in and
returned. Nothing here computes anything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

if TYPE_CHECKING:
    from aria.pool import Pool

State = dict[str, Tensor]
"""A tracker's memory: tensors only, each of shape ``(..., K)`` or ``(..., K, extra…)``."""

Device = torch.device | str | None


class RegionStats(NamedTuple):
    """What one step saw, as float64 sums over its samples, so that the statistics of several ranks add up."""

    n: Tensor
    """(..., K) number of observations in each region."""
    total: Tensor
    """(..., K) sum of the observed signals."""
    square: Tensor
    """(..., K) sum of their squares."""
    visit: Tensor
    """(..., K) probability, when the step was drawn, that the region was visited; 1 where unknown."""


class Estimate(NamedTuple):
    """What a tracker believes about each region."""

    value: Tensor
    """(..., K) the estimated statistic, usually the mean discrepancy."""
    stderr: Tensor
    """(..., K) its standard error or confidence radius; ``inf`` marks a region never seen."""


class Certificate(NamedTuple):
    r"""What is known about an estimate's error before any data are looked at.

    If the truth moves at most ``D`` a step and the noise has variance at most ``s²``, the estimate
    :math:`m` of :math:`\mu` satisfies

    .. math:: |bias| \le start\,|m_0-\mu_0| + lag\,D, \qquad Var(m) \le noise\,s^2 ,

    where :math:`m = start\,m_0 + \sum_j w_j y_j`, lag is the weighted age of the observations and
    :math:`noise = \sum_j w_j^2/n_j`. Valid while the weights do not depend on the noise.
    """

    start: Tensor
    """(..., K) weight still given to the initial value."""
    lag: Tensor
    """(..., K) mean age of the information, in steps."""
    noise: Tensor
    """(..., K) variance of the estimate in units of one observation's variance."""


@dataclass(frozen=True, eq=False)
class Draw:
    """What the sampler drew. Hand it back to :meth:`aria.Sampler.observe` with the signals."""

    region: Tensor
    """(B,) region of each sample."""
    index: Tensor
    """(B,) condition of each sample, as a position in the pool."""
    weight: Tensor
    """(B,) what to multiply each sample's loss by; all ones unless a correction is asked for."""
    visit: Tensor | None
    """(K,) probability that the whole draw visits each region; None unless the tracker weighs by it."""
    num_regions: int
    """K of the partition that was drawn from."""
    step: int
    """Which of the run's draws this is, from 0."""
    coords: Mapping[str, Tensor]
    """Further drawn coordinates, (B,) each: "timestep", "guidance", … where the partition covers them."""


class Partition(ABC):
    """A fitted division of the conditioning space into ``K`` regions."""

    mass: Tensor
    """(K,) float64, each region's share of the target distribution; sums to one."""

    @property
    def num_regions(self) -> int:
        """Number of regions K, empty ones included."""
        return self.mass.shape[0]

    @abstractmethod
    def assign(self, pool: Pool, **coords: Tensor) -> Tensor:
        """(N,) region of every condition of ``pool``, which need not be the pool the partition was fitted on."""

    @abstractmethod
    def locate(self, index: Tensor, **coords: Tensor) -> Tensor:
        """(B,) region of conditions given by their position in the fitted pool; a table look-up."""

    @abstractmethod
    def draw(self, region: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """One condition for each of the ``(B,)`` regions: ``{"index": (B,), …coordinates}``, from the
        target distribution restricted to the region."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """The same partition with its drawing tables on ``device``."""

    @abstractmethod
    def state_dict(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """JSON-serialisable settings and tensors that rebuild the partition."""


class Partitioner(ABC):
    """Conditions to regions. A frozen dataclass: hyper-parameters only."""

    @property
    def coordinates(self) -> tuple[str, ...]:
        """What its regions are divided by besides conditions, such as ``"timestep"``, and what is drawn with them."""
        return ()

    @abstractmethod
    def fit(self, pool: Pool) -> Partition:
        """Divide the conditions of ``pool``; the same pool and seed give the same regions."""

    @classmethod
    def examples(cls) -> Iterable[Self]:
        """Instances for the conformance checks; override where the defaults do not say enough."""
        return (cls(),)


class Tracker(ABC):
    """Noisy signals to one estimate per region. A frozen dataclass: hyper-parameters only.

    A tracker treats every region alike and on its own, never looks at where it stands on the replica
    axes, and leaves a region with ``n = 0`` without an observation (it may age).
    """

    statistic: ClassVar[str] = "mean"
    """What ``Estimate.value`` estimates: "mean" of the signal, or another statistic by name."""

    @property
    def uses_visit(self) -> bool:
        """Whether ``update`` looks at the visit probabilities; where not, nobody computes them."""
        return False

    @abstractmethod
    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        """The memory before any observation; ``shape`` is ``(..., K)``. Floating state is float64."""

    @abstractmethod
    def update(self, state: State, stats: RegionStats) -> State:
        """The memory after one more step. Never changes ``state`` in place."""

    @abstractmethod
    def estimate(self, state: State) -> Estimate:
        """What is believed now; ``stderr`` is ``inf`` for regions never seen."""

    def certificate(self, state: State) -> Certificate | None:
        """The a-priori error of the estimate, or None where the gains depend on the data."""
        return None

    @classmethod
    def examples(cls) -> Iterable[Self]:
        """Instances for the conformance checks; override where there are arguments without default."""
        return (cls(),)


class Allocator(ABC):
    """Estimates to a sampling distribution over regions. A frozen dataclass, called as a pure function."""

    @abstractmethod
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        """(..., K) non-negative weights at any scale; the sampler normalises them and adds the floor."""

    @classmethod
    def examples(cls) -> Iterable[Self]:
        """Instances for the conformance checks; override where there are arguments without default."""
        return (cls(),)
