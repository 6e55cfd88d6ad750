"""The signals that the tracker observes: checked, and optionally normalised by timestep."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aria import checks
from aria.interfaces import Device, RegionStats, State
from aria.statistics import sum_by_region
from aria.trackers import EMA


class NonFiniteSignal(ValueError):
    """A discrepancy that is NaN, infinite or negative, named with its step and region."""


def valid(signal: Tensor) -> Tensor:
    """(B,) True where the signal is a finite non-negative number."""
    return (signal >= 0) & (signal < torch.inf)


def all_valid(signal: Tensor) -> bool:
    """Whether every signal is a finite non-negative number; reads the values, so not for accelerators."""
    if signal.numel() == 0:
        return True
    low, high = signal.aminmax()  # NaN if any is
    return low.item() >= 0 and high.item() < torch.inf


def refuse(signal: Tensor, ok: Tensor, region: Tensor, step: int, skip: bool) -> None:
    """Raise for the first bad signal; with ``skip`` only for a negative one, which no overflow explains."""
    bad = (signal < 0) & ~ok if skip else ~ok
    if bool(bad.any()):
        first = int(bad.long().argmax())
        raise refusal(float(signal[first]), step, int(region[first]))


def refusal(signal: float | None, step: int, region: int) -> NonFiniteSignal:
    """The error for a bad signal; ``signal`` is None if its value is no longer available."""
    what = "a signal that is negative or not finite" if signal is None else f"signal {signal}"
    return NonFiniteSignal(
        f"{what} at step {step} in region {region}: discrepancies must be finite and non-negative "
        f'(nonfinite="skip" excludes and counts NaN and inf)'
    )


def no_fault(device: Device = None) -> Tensor:
    """(3,) record of bad signals: their number, and the step and region of the first."""
    return torch.tensor([0, -1, -1], device=device)


def record_fault(fault: Tensor, ok: Tensor, region: Tensor, step: int) -> Tensor:
    """The record after a batch, without synchronising with the device."""
    if ok.numel() == 0:
        return fault
    bad = (~ok).long()
    where = region.gather(0, bad.argmax(0, keepdim=True))  # (1,); region[bad.argmax()] would be a host sync
    first = torch.cat([torch.full_like(fault[:1], step), where])  # (2,)
    place = torch.where((fault[0] == 0) & (bad.sum() > 0), first, fault[1:])
    return torch.cat([(fault[0] + bad.sum())[None], place])


@dataclass(frozen=True)
class TimestepNormaliser:
    r"""Divides each signal by the running mean of its timestep bucket.

    A diffusion loss varies far more with the timestep than with the condition; after this division a region needs far
    fewer observations. The running mean is itself a tracker whose regions are the buckets. A
    bucket's first batch only calibrates its mean and is not reported to the tracker.
    """

    timesteps: int
    buckets: int = 10
    rate: float = 0.02

    def __post_init__(self) -> None:
        checks.whole("timesteps", self.timesteps, least=1)
        object.__setattr__(self, "timesteps", int(self.timesteps))

    @property
    def _mean(self) -> EMA:
        return EMA(rate=self.rate, sigma=1.0)

    def init(self, device: Device = None) -> State:
        """No bucket calibrated."""
        return self._mean.init((self.buckets,), device)

    def bucket(self, timestep: Tensor) -> Tensor:
        """(B,) bucket of each timestep in [0, timesteps)."""
        if timestep.is_cpu and not bool(((timestep >= 0) & (timestep < self.timesteps)).all()):
            outside = timestep[~((timestep >= 0) & (timestep < self.timesteps))][0]
            raise ValueError(f"timestep {outside.item()} outside [0, {self.timesteps})")
        return (timestep.double() * self.buckets / self.timesteps).long()

    def apply(self, state: State, signal: Tensor, bucket: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) normalised signals, and (B,) whether their bucket is calibrated."""
        mean = state["value"][bucket]
        known = mean > 0
        ratio = signal / torch.where(known, mean, torch.ones_like(mean))
        return ratio.clamp(max=torch.finfo(torch.float32).max).float().double(), known

    def sums(self, signal: Tensor, ok: Tensor, bucket: Tensor) -> tuple[Tensor, ...]:
        """Number and sum of the signals of each bucket, (buckets,) each."""
        return sum_by_region(bucket, [ok, signal * ok], self.buckets)

    def update(self, state: State, n: Tensor, total: Tensor) -> State:
        """The running means after a step with this number and sum of signals in each bucket."""
        return self._mean.update(state, RegionStats(n, total, torch.zeros_like(n), torch.ones_like(n)))
