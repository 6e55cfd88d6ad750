"""Which regions are observed when: always, at random, in random batches, depending on errors, or by an allocator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aria import checks
from aria.allocators import Proportional
from aria.interfaces import Allocator, Device, State
from aria.samplers import draws
from theory.regimes.base import Past, Seen, Visits
from theory.regimes.randomness import Random


def _row(shape: tuple[int, int], value: float, device: Device) -> Tensor:
    return torch.full((1, shape[1]), value, dtype=torch.float64, device=device)


@dataclass(frozen=True)
class EveryStep(Visits):
    """Every region at every step, with ``batch`` observations each.

    >>> EveryStep(batch=4).least
    1.0
    """

    shared = True
    batched = True
    batch: int = 1

    def __post_init__(self) -> None:
        checks.whole("batch", self.batch, least=1)

    def init(self, shape: tuple[int, int], device: Device = None) -> State:
        return {"n": _row(shape, self.batch, device), "visit": _row(shape, 1.0, device)}

    def step(self, state: State, past: Past, random: Random) -> tuple[Seen, State]:
        return Seen(**state), state

    @property
    def least(self) -> float:
        return 1.0

    @classmethod
    def examples(cls) -> Iterable[EveryStep]:
        return cls(), cls(batch=4)


@dataclass(frozen=True)
class Bernoulli(Visits):
    """One observation with ``probability`` q per step, independently: gaps are geometric and T10 holds with equality.

    >>> Bernoulli(0.2).least
    0.2
    """

    probability: float

    def __post_init__(self) -> None:
        checks.half_open_unit("probability", self.probability)

    def init(self, shape: tuple[int, int], device: Device = None) -> State:
        return {"visit": _row(shape, self.probability, device)}

    def step(self, state: State, past: Past, random: Random) -> tuple[Seen, State]:
        return Seen((random.uniform() < self.probability).double(), state["visit"]), state

    @property
    def least(self) -> float:
        return self.probability

    @classmethod
    def examples(cls) -> Iterable[Bernoulli]:
        return cls(0.2), cls(1.0)


@dataclass(frozen=True)
class Binomial(Visits):
    r"""Batches of random size: :math:`n \sim Bin(batch, share)`, none with probability :math:`(1-share)^{batch}` (T11).

    >>> Binomial(batch=2, share=0.5).least
    0.75
    """

    batched = True
    batch: int
    share: float

    def __post_init__(self) -> None:
        checks.whole("batch", self.batch, least=1)
        checks.half_open_unit("share", self.share)

    def init(self, shape: tuple[int, int], device: Device = None) -> State:
        return {"visit": _row(shape, self.least, device)}

    def step(self, state: State, past: Past, random: Random) -> tuple[Seen, State]:
        return Seen(random.binomial(self.batch, self.share), state["visit"]), state

    @property
    def least(self) -> float:
        return 1 - (1 - self.share) ** self.batch

    @classmethod
    def examples(cls) -> Iterable[Binomial]:
        return cls(8, share=0.1), cls(3, share=1.0)


@dataclass(frozen=True)
class Selective(Visits):
    """Always if the last error is smaller than ``inside``, otherwise with ``probability`` q: large errors persist.

    With rare shocks (:class:`~theory.regimes.Sparse`) and inside² = s²b/(2-b) the mean squared error of an EMA rises to
    that value over q, which is T12; the visit-weighted error of T13 does not rise.

    >>> Selective(inside=0.2, probability=0.1).least
    0.1
    """

    adaptive = True
    inside: float
    probability: float

    def __post_init__(self) -> None:
        checks.positive("inside", self.inside)
        checks.half_open_unit("probability", self.probability)

    def step(self, state: State, past: Past, random: Random) -> tuple[Seen, State]:
        near = (past.error.abs_() < self.inside).double()
        visit = near.mul_(1 - self.probability).add_(self.probability)
        return Seen((random.uniform() < visit).double(), visit), state

    @property
    def least(self) -> float:
        return self.probability

    @classmethod
    def examples(cls) -> Iterable[Selective]:
        return (cls(0.3, probability=0.1),)


@dataclass(frozen=True)
class Allocated(Visits):
    r"""Visits decided by an allocator, as in the sampler: at every step ``batch`` draws from

    .. math:: q = \epsilon\,p + (1-\epsilon)\,a(\hat\mu, p)/\sum a(\hat\mu, p)

    with the allocator :math:`a`, the floor :math:`\epsilon` and the ``mass`` :math:`p` (uniform if None). Draws are
    stratified (each count within one of batch·q) or independent.

    >>> Allocated(batch=2, floor=0.5, mass=(0.4, 0.6)).least  # at least 2 · 0.5 · 0.4 of a visit per step
    0.4
    """

    adaptive = True
    batched = True
    allocator: Allocator = field(default_factory=Proportional)
    batch: int = 1
    floor: float = 0.2
    mass: tuple[float, ...] | None = None
    stratified: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.allocator, Allocator):
            raise ValueError(f"allocator must be an allocator, got {self.allocator!r}")
        checks.whole("batch", self.batch, least=1)
        checks.closed_unit("floor", self.floor)
        if self.mass is not None and not (min(self.mass, default=-1) >= 0 < sum(self.mass)):
            raise ValueError(f"mass must be non-negative with a positive sum, got {self.mass!r}")

    def init(self, shape: tuple[int, int], device: Device = None) -> State:
        if self.mass is not None and len(self.mass) != shape[1]:
            raise ValueError(f"mass must have one share per region, {shape[1]}, got {len(self.mass)}")
        mass = torch.tensor(self.mass or (1.0,) * shape[1], dtype=torch.float64, device=device)
        return {"mass": mass[None] / mass.sum()}

    def step(self, state: State, past: Past, random: Random) -> tuple[Seen, State]:
        mass = state["mass"]  # (1, K)
        weights = self.allocator(past.last_estimate, mass[0]) * mass.sign()  # (R, K)
        probs = weights.mul_((1 - self.floor) / weights.sum(-1, keepdim=True)).add_(mass, alpha=self.floor)
        probs = probs.expand(random.shape)
        if self.stratified:
            ends = _ends(probs) * self.batch
            counts = (ends - random.uniform(1)).ceil_().diff(prepend=torch.zeros_like(ends[:, :1]))
            return Seen(counts, draws.systematic_visit(probs, self.batch)), state
        region = torch.searchsorted(_ends(probs), random.uniform(self.batch) * draws.BELOW_ONE, right=True)
        counts = torch.zeros_like(probs).scatter_add_(1, region, torch.ones_like(region, dtype=probs.dtype))
        return Seen(counts, draws.independent_visit(probs, self.batch)), state

    @property
    def least(self) -> float:
        if self.mass is None:
            return 0.0  # the number of regions is not known here
        share = torch.tensor(self.floor * min(self.mass) / sum(self.mass), dtype=torch.float64)
        return float((draws.systematic_visit if self.stratified else draws.independent_visit)(share, self.batch))

    @classmethod
    def examples(cls) -> Iterable[Allocated]:
        return cls(), cls(batch=3, floor=0.5), cls(batch=2, stratified=False)


def _ends(probs: Tensor) -> Tensor:
    """(R, K) end of each region's interval of [0, 1]; the last one is exactly 1."""
    ends = probs.cumsum(-1)
    return ends / ends[:, -1:]
