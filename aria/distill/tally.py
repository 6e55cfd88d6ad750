"""What has been seen since the log last looked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from accelerate import Accelerator
from torch import Tensor

from aria.statistics import sum_by_region


class Tally:
    """Discrepancies by region and the terms of the loss, added up where they are made: nothing waits for the device.

    What is compared with another run, or saved, is what all ranks have seen together.
    """

    def __init__(self, regions: int, terms: Iterable[str], accelerator: Accelerator) -> None:
        self.regions, self.terms, self.accelerator = regions, tuple(terms), accelerator
        self.clear_losses()
        self.clear_regions()

    def clear_losses(self) -> None:
        """Begin the terms of the loss anew."""
        self.losses = {name: self._zeros() for name in self.terms}
        self.steps = 0

    def clear_regions(self) -> None:
        """Begin what was seen of the regions anew."""
        self.seen = tuple(self._zeros(self.regions) for _ in range(3))
        """(K,) how many discrepancies, their sum and that of their squares."""
        self.visits = self._zeros(self.regions)
        """(K,) how many updates of the tracker saw each region on any rank."""
        self.updates = 0

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.accelerator.device)

    def add(self, region: Tensor, signal: Tensor, told: Tensor, losses: Mapping[str, Tensor]) -> None:
        """One step: (B,) regions and discrepancies, of which those ``told`` count, and (B,) losses by term."""
        kept = torch.where(told, signal, 0.0).double()
        by_region = sum_by_region(region, (told.double(), kept, kept * kept), self.regions)
        for running, now in zip(self.seen, by_region, strict=True):
            running += now
        for name, value in losses.items():
            self.losses[name] += value.double().mean()
        self.steps += 1

    def add_update(self, visited: Tensor) -> None:
        """The tracker has moved, and (K,) regions were seen on some rank."""
        self.visits += visited
        self.updates += 1

    def sums(self) -> dict[str, Tensor]:
        """By region over all ranks, and of each term over steps its mean over ranks. Every rank must ask."""
        by_region = zip(("n", "total", "square"), self.seen, strict=True)
        summed = {name: self.accelerator.reduce(value, "sum") for name, value in by_region}
        means = self.losses.items()
        summed["visits"] = self.visits.clone()
        return summed | {f"loss.{name}": self.accelerator.reduce(value, "mean") for name, value in means}

    def load(self, sums: Mapping[str, Tensor], steps: int, updates: int) -> None:
        """Go on adding to saved sums; of those over all ranks the first rank takes care."""
        device, mine = self.accelerator.device, 1.0 if self.accelerator.is_main_process else 0.0
        self.seen = tuple(sums[name].to(device) * mine for name in ("n", "total", "square"))
        self.losses = {name: sums[f"loss.{name}"].to(device) for name in self.terms}
        self.steps = steps
        self.visits, self.updates = sums["visits"].to(device), updates
