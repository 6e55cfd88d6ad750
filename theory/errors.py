"""Errors of simulated trackers: moments of the final ones, and whatever else is recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from aria.interfaces import Device, State, Tracker

RECORDS = ("sample", "sums", "weighted", "peak", "curve", "certificate")
"""What can be recorded in addition to the moments of the final errors; see :class:`Errors`."""
Z99 = 2.576
"""Half-width of a 99 % confidence interval of a mean, in standard errors."""


class Moments(NamedTuple):
    """Averages over replicas, (K,) each, and their standard errors."""

    mean: Tensor
    square: Tensor
    mean_stderr: Tensor
    square_stderr: Tensor


@dataclass(frozen=True, eq=False)
class Errors:
    r"""The errors of R replicas: filtering :math:`e_t = m_t - \mu_t` and prediction :math:`p_t = m_{t-1} - \mu_t`.

    ``records`` holds the requested records, (R, K) each unless noted; sums are over the steps after ``burn``:

    ============= ====================================================================================================
    "sample"      ``filtering`` and ``prediction``, the errors of the last step
    "sums"        ``sum e``, ``sum e²``, ``sum p``, ``sum p²``
    "weighted"    ``sum q``, ``sum q e`` and ``sum q e²`` with the visit probability q_t and the error e_{t-1} before
                  it, and ``start``, the error at step ``burn``: all that T13 needs
    "peak"        ``peak``, the largest \|e_t\|
    "curve"       ``curve e``, ``curve e²``, ``curve p``, ``curve p²``, (T - burn, K) each: averages over replicas
    "certificate" ``start weight``, ``lag`` and ``noise`` of the last step
    ============= ====================================================================================================
    """

    replicas: int
    steps: int
    burn: int
    powers: Tensor
    """(2, 4, K) sums over replicas of the powers 1 to 4 of the final filtering and prediction errors."""
    records: dict[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        """The record called ``name``."""
        if name not in self.records:
            raise KeyError(f"{name!r} was not recorded, only {', '.join(sorted(self.records)) or 'the moments'}")
        return self.records[name]

    def _moments(self, row: int) -> Moments:
        m1, m2, _, m4 = (self.powers[row] / self.replicas).unbind()
        n = max(self.replicas - 1, 1)
        return Moments(m1, m2, ((m2 - m1 * m1).clamp(min=0) / n).sqrt(), ((m4 - m2 * m2).clamp(min=0) / n).sqrt())

    @property
    def filtering(self) -> Moments:
        """Moments of e_T."""
        return self._moments(0)

    @property
    def prediction(self) -> Moments:
        """Moments of p_T."""
        return self._moments(1)


class Tally:
    """Accumulates the records of one block of replicas; ``burn`` and ``steps`` are those of the simulation."""

    def __init__(
        self, record: frozenset[str], shape: tuple[int, int], burn: int, steps: int, device: Device = None
    ) -> None:
        self.record, self.shape, self.burn, self.steps, self.device = record, shape, burn, steps, device
        self.powers = self._zeros((2, 4, shape[1]))
        self.records: dict[str, Tensor] = {}
        names = {
            "sums": ("sum e", "sum e²", "sum p", "sum p²"),
            "weighted": ("sum q", "sum q e", "sum q e²"),
            "peak": ("peak",),
        }
        for kind, fields in names.items():
            if kind in self.record:
                self.records |= {name: self._zeros(shape) for name in fields}
        if "curve" in self.record:
            span = (steps - burn, shape[1])
            self.records |= {f"curve {name}": self._zeros(span) for name in ("e", "e²", "p", "p²")}

    def _zeros(self, shape: tuple[int, ...]) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    def add(self, step: int, last: Tensor, before: Tensor, truth: Tensor, value: Tensor, visit: Tensor) -> None:
        """Add a step: the estimates m_{t-1} and m_t, the truths μ_{t-1} and μ_t, and q_t."""
        records, kinds = self.records, self.record
        e, p = value - truth, last - truth  # (R, K)
        if "sums" in kinds:
            records["sum e"].add_(e)
            records["sum e²"].addcmul_(e, e)
            records["sum p"].add_(p)
            records["sum p²"].addcmul_(p, p)
        if "weighted" in kinds:
            old = last - before  # e_{t-1}
            if step == self.burn + 1:
                records["start"] = old
            weighted = old * visit
            records["sum q"].add_(visit)
            records["sum q e"].add_(weighted)
            records["sum q e²"].addcmul_(weighted, old)
        if "peak" in kinds:
            torch.maximum(records["peak"], e.abs(), out=records["peak"])
        if "curve" in kinds:
            at = step - self.burn - 1
            for name, error in (("e", e), ("p", p)):
                records[f"curve {name}"][at] = error.sum(0)
                records[f"curve {name}²"][at] = (error * error).sum(0)
        if step == self.steps:
            self.powers = torch.stack([torch.stack([(x**k).sum(0) for k in (1, 2, 3, 4)]) for x in (e, p)])
            if "sample" in kinds:
                records |= {"filtering": e, "prediction": p}

    def close(self, tracker: Tracker, state: State) -> None:
        """Record the certificate from the final state."""
        if "certificate" not in self.record:
            return
        certificate = tracker.certificate(state)
        if certificate is None:
            raise ValueError(f"tracker has no certificate to record: {tracker!r}")
        for name, part in zip(("start weight", "lag", "noise"), certificate, strict=True):
            self.records[name] = part.expand(self.shape)
