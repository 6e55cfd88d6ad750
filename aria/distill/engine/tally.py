"""Running sums of losses and discrepancies since the last line of the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from aria import checks
from aria.statistics import sum_by_region


class Tally:
    """Sums of discrepancies by region and of loss terms, kept on the device so that adding does not synchronise.

    Each rank adds its own samples; what is logged or saved is reduced over all ranks.
    """

    def __init__(self, regions: int, terms: Iterable[str], accelerator: Accelerator) -> None:
        self.regions, self.terms, self.accelerator = regions, tuple(terms), accelerator
        self.clear_losses()
        self.clear_regions()

    def clear_losses(self) -> None:
        """Reset the sums of the loss terms."""
        self.losses = {name: self._zeros() for name in self.terms}
        self.steps = 0

    def clear_regions(self, step: int = 0) -> None:
        """Reset the sums by region, after ``step`` steps of the run."""
        self.since = step
        self.seen = tuple(self._zeros(self.regions) for _ in range(3))
        """(K,) each: number of discrepancies, their sum, the sum of their squares."""
        self.visits = self._zeros(self.regions)
        """(K,) number of tracker updates that observed each region on any rank."""

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.accelerator.device)

    def add(self, region: Tensor, signal: Tensor, counted: Tensor, losses: Mapping[str, Tensor]) -> None:
        """Add one step: (B,) regions and discrepancies, restricted to those ``counted``, and (B,) losses by term."""
        kept = torch.where(counted, signal, 0.0).double()
        by_region = sum_by_region(region, (counted.double(), kept, kept * kept), self.regions)
        for running, now in zip(self.seen, by_region, strict=True):
            running += now
        for name, value in losses.items():
            self.losses[name] += value.double().mean()
        self.steps += 1

    def add_update(self, visited: Tensor) -> None:
        """Add one update of the tracker; ``visited`` (K,) are the regions that it observed on any rank."""
        self.visits += visited

    def state_dict(self) -> dict[str, Any]:
        """All sums over all ranks. Collective: every rank calls it."""
        sums = self.seen_so_far() | {f"loss.{name}": value for name, value in self.losses_so_far().items()}
        return {**sums, "steps": self.steps, "since": self.since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from saved sums over all ranks: the first rank takes them, the others start at 0."""
        for name in ("steps", "since"):
            checks.whole(name, state[name], least=0)
        device, share = self.accelerator.device, 1.0 if self.accelerator.is_main_process else 0.0
        self.seen = tuple(state[name].to(device) * share for name in ("n", "total", "square"))
        self.losses = {name: state[f"loss.{name}"].to(device) for name in self.terms}
        self.steps, self.since = state["steps"], state["since"]
        self.visits = state["visits"].to(device)

    def seen_so_far(self) -> dict[str, Tensor]:
        """(K,) each, over all ranks. Collective: every rank calls it."""
        by_region = zip(("n", "total", "square"), self.seen, strict=True)
        summed = {name: self.accelerator.reduce(value, "sum") for name, value in by_region}
        return summed | {"visits": self.visits.clone()}

    def losses_so_far(self) -> dict[str, Tensor]:
        """Each term summed over steps, mean over ranks. Collective: every rank calls it."""
        return {name: self.accelerator.reduce(value, "mean") for name, value in self.losses.items()}
