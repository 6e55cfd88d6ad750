"""Allocation by the true discrepancy: what no tracker can beat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aria.allocators.proportional import Proportional
from aria.interfaces import Allocator, Estimate


@dataclass(frozen=True, eq=False)
class Oracle(Allocator):
    r"""The rule ``of``, with the true discrepancy instead of the estimate: value :math:`\mu_k`, standard error 0.

    The difference between a tracker's run and the oracle's is the most that better tracking can gain. ``truth`` is a
    number for all regions, one number per region (with leading replica axes if they differ), or a function without
    arguments that returns either, for a truth that moves. It must be finite and non-negative; values on an accelerator
    are not checked, because reading them would synchronise with the device.

    >>> estimate = Estimate(torch.tensor([5.0, 5.0]), torch.tensor([0.1, torch.inf]))
    >>> q = Oracle(truth=[1.0, 3.0])(estimate, torch.tensor([0.5, 0.5]))
    >>> q / q.sum()
    tensor([0.2500, 0.7500])
    """

    truth: Tensor | Sequence[float] | float | Callable[[], Tensor | Sequence[float] | float]
    of: Allocator = field(default_factory=Proportional)

    def __post_init__(self) -> None:
        if not isinstance(self.of, Allocator):
            raise ValueError(f"of must be an allocator, got {self.of!r}")
        if not callable(self.truth):
            _checked(self.truth)

    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        value = estimate.value  # (..., K)
        truth = _checked(self.truth() if callable(self.truth) else self.truth)
        truth = truth.to(value, non_blocking=value.is_cuda)  # towards the host a copy has to be waited for
        _check_shape(truth.shape, value.shape)
        return self.of(Estimate(truth.expand(value.shape), torch.zeros_like(value)), mass)

    @classmethod
    def examples(cls) -> Iterable[Oracle]:
        return cls(1.0), cls(lambda: torch.tensor(2.0)), cls(0.0, of=Proportional(power=2.0, base=0.5))


def _checked(truth: Tensor | Sequence[float] | float) -> Tensor:
    try:
        values = torch.as_tensor(truth, dtype=torch.float64)
    except (TypeError, ValueError):
        raise ValueError(f"truth must be a tensor, numbers or a function that returns them, got {truth!r}") from None
    if values.is_cpu and not bool(((values >= 0) & (values < torch.inf)).all()):
        raise ValueError(f"truth must be finite and non-negative, got values from {values.min()} to {values.max()}")
    return values


def _check_shape(truth: torch.Size, value: torch.Size) -> None:
    """Refuse a truth of another shape, including one number per replica that would broadcast over its regions."""
    leading = zip(reversed(truth[:-1]), reversed(value[:-1]), strict=False)
    fits = len(truth) <= len(value) and truth[-1:] in ((), value[-1:]) and all(a in (1, b) for a, b in leading)
    if not fits:
        raise ValueError(f"truth must fit {list(value)}, the regions last, got shape {list(truth)}")
