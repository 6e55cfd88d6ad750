"""The interfaces shared by all parts of ARIA: statistics, estimates, draws, and the abstract classes.

Shapes: ``K`` is the number of regions, ``B`` a batch, and ``...`` stands for any number of leading
replica axes, so that one tensor can carry thousands of independent runs of the same tracker.

Hyper-parameters live in frozen dataclasses; state is a value (:data:`State`) that is passed in and
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
"""The state of a tracker: tensors only, each of shape ``(..., K)`` or ``(..., K, extra…)``."""

Device = torch.device | str | None


class RegionStats(NamedTuple):
    """The observations of one step as float64 sums over samples, so that statistics of several ranks can be added."""

    n: Tensor
    """(..., K) number of observations in each region."""
    total: Tensor
    """(..., K) sum of the observed signals."""
    square: Tensor
    """(..., K) sum of their squares."""
    visit: Tensor
    """(..., K) probability, when the step was drawn, that the region was visited; 1 where unknown."""


class Estimate(NamedTuple):
    """A tracker's current estimate for each region."""

    value: Tensor
    """(..., K) the estimated statistic, usually the mean discrepancy."""
    stderr: Tensor
    """(..., K) its standard error or confidence radius; ``inf`` marks a region that was never observed."""


class Certificate(NamedTuple):
    r"""A bound on the error of an estimate that does not depend on the observed values.

    If the truth moves by at most ``D`` per step and the noise has variance at most ``s²``, the estimate
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
    """(B,) factor for each sample's loss; all ones without a correction."""
    visit: Tensor | None
    """(K,) probability that the whole draw visits each region; None unless the tracker uses it."""
    num_regions: int
    """K of the partition that was drawn from."""
    step: int
    """Index of this draw in the run, from 0."""
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
    """Groups conditions into regions. A frozen dataclass: hyper-parameters only."""

    @property
    def coordinates(self) -> tuple[str, ...]:
        """What its regions are divided by besides conditions, such as ``"timestep"``, and what is drawn with them."""
        return ()

    @abstractmethod
    def fit(self, pool: Pool) -> Partition:
        """Divide the conditions of ``pool``; the same pool and seed give the same regions."""

    @classmethod
    def examples(cls) -> Iterable[Self]:
        """Instances for the conformance checks; override if the defaults are not representative."""
        return (cls(),)


class Tracker(ABC):
    """Turns noisy signals into one estimate per region. A frozen dataclass: hyper-parameters only.

    A tracker treats all regions equally and independently, does not depend on the position on the replica
    axes, and adds no observation to a region with ``n = 0`` (its estimate may age).
    """

    statistic: ClassVar[str] = "mean"
    """What ``Estimate.value`` estimates: "mean" of the signal, or another statistic by name."""

    @property
    def uses_visit(self) -> bool:
        """Whether ``update`` uses the visit probabilities; if not, they are not computed."""
        return False

    @abstractmethod
    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        """The state before any observation; ``shape`` is ``(..., K)``. Floating-point state is float64."""

    @abstractmethod
    def update(self, state: State, stats: RegionStats) -> State:
        """The state after one more step. Never modifies ``state`` in place."""

    @abstractmethod
    def estimate(self, state: State) -> Estimate:
        """The current estimate; ``stderr`` is ``inf`` for regions that were never observed."""

    def certificate(self, state: State) -> Certificate | None:
        """The a-priori error bound of the estimate, or None if the gains depend on the data."""
        return None

    @classmethod
    def examples(cls) -> Iterable[Self]:
        """Instances for the conformance checks; override if some arguments have no default."""
        return (cls(),)


class Allocator(ABC):
    """Turns estimates into a sampling distribution over regions. A frozen dataclass, called as a pure function."""

    @abstractmethod
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        """(..., K) non-negative weights at any scale; the sampler normalises them and adds the floor."""

    @classmethod
    def examples(cls) -> Iterable[Self]:
        """Instances for the conformance checks; override if some arguments have no default."""
        return (cls(),)
