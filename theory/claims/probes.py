"""Probes: trackers that estimate as the one they wrap and expose some other quantity in place of its certificate.

The simulator records certificates, so it records whatever a probe puts there.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from aria.interfaces import Certificate, Device, Estimate, RegionStats, State, Tracker


@dataclass(frozen=True)
class Probe(Tracker):
    """Wraps the tracker ``of``. The exposed quantity is recorded as ``start weight``, ``lag`` and ``noise``."""

    of: Tracker

    @property
    def uses_visit(self) -> bool:
        return self.of.uses_visit

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        return self.of.init(shape, device)

    def update(self, state: State, stats: RegionStats) -> State:
        return self.of.update(state, stats)

    def estimate(self, state: State) -> Estimate:
        return self.of.estimate(state)

    @abstractmethod
    def certificate(self, state: State) -> Certificate:
        """The exposed quantity."""


@dataclass(frozen=True)
class Radius(Probe):
    """Exposes the tracker's standard error as ``start weight``."""

    def certificate(self, state: State) -> Certificate:
        radius = self.of.estimate(state).stderr
        return Certificate(radius, torch.zeros_like(radius), torch.zeros_like(radius))


@dataclass(frozen=True)
class Recent(Probe):
    """Exposes the last three observations, the newest first; for regimes with one observation at each step."""

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        zeros = torch.zeros(shape, dtype=torch.float64, device=device)
        return self.of.init(shape, device) | {"y0": zeros, "y1": zeros.clone(), "y2": zeros.clone()}

    def update(self, state: State, stats: RegionStats) -> State:
        seen = {"y0": stats.total, "y1": state["y0"], "y2": state["y1"]}
        return self.of.update(state, stats) | seen

    def certificate(self, state: State) -> Certificate:
        return Certificate(state["y0"], state["y1"], state["y2"])


@dataclass(frozen=True)
class Apart(Probe):
    """Exposes the difference from an ``other`` tracker of the same observations: the largest so far and the current."""

    other: Tracker

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        peak = torch.zeros(shape, dtype=torch.float64, device=device)
        return self.of.init(shape, device) | _prefixed(self.other.init(shape, device)) | {"peak": peak}

    def update(self, state: State, stats: RegionStats) -> State:
        after = self.of.update(state, stats) | _prefixed(self.other.update(_unprefixed(state), stats))
        return after | {"peak": torch.maximum(state["peak"], self._gap(after).abs())}

    def _gap(self, state: State) -> Tensor:
        return self.of.estimate(state).value - self.other.estimate(_unprefixed(state)).value

    def certificate(self, state: State) -> Certificate:
        gap = self._gap(state)
        return Certificate(state["peak"], gap, torch.zeros_like(gap))


def _prefixed(state: State) -> State:
    return {f"other {name}": tensor for name, tensor in state.items()}


def _unprefixed(state: State) -> State:
    return {name.removeprefix("other "): tensor for name, tensor in state.items() if name.startswith("other ")}
