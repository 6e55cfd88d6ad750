r"""Random conditioning: how often a noised image is shown with another condition than its own.

With probability :math:`\pi(t)` the condition is replaced by one that the sampler draws. The noisier the latent, the
less it says about its own condition (D. Kim et al., "Random conditioning for diffusion model compression with
distillation", CVPR 2025). Every shape is a table over the ``T`` timesteps, so that a step only looks it up. In flow
matching, whose models know no timesteps but noise levels, :math:`t/T` stands for the level :math:`\sigma`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from aria import checks
from aria.distill.models.schedule import NoiseSchedule


class Replacement(ABC):
    """A frozen dataclass that gives the replacement probability of every timestep."""

    @abstractmethod
    def at(self, u: Tensor) -> Tensor:
        """(T,) probabilities at ``u = t/T`` in [0, 1), or at noise levels ``u = σ`` in (0, 1]."""

    def table(self, timesteps: int) -> Tensor:
        """(T,) probabilities of the timesteps 0…T−1."""
        u = torch.arange(timesteps, dtype=torch.float64) / timesteps
        return self.at(u).clamp(0, 1).float()

    def over(self, schedule: NoiseSchedule) -> Tensor:
        """(T,) probabilities of the timesteps of ``schedule``, by how noisy they are.

        >>> Exponential(5.0).over(NoiseSchedule.flow(1000, shift=3.0))[-1].item()
        1.0
        """
        return self.at(schedule.noisiness).clamp(0, 1).float()


@dataclass(frozen=True)
class Exponential(Replacement):
    r""":math:`\pi(t) = e^{-\lambda(1-t/T)}`; λ = 5 replaces one condition in five, most of them at high noise.

    >>> round(Exponential(5.0).table(1000).mean().item(), 3)
    0.198
    """

    steepness: float = 5.0

    def __post_init__(self) -> None:
        checks.non_negative("steepness", self.steepness)

    def at(self, u: Tensor) -> Tensor:
        return torch.exp(-self.steepness * (1 - u))


@dataclass(frozen=True)
class Sigmoid(Replacement):
    r""":math:`\pi(t) = 1/(1+e^{-s(t/T-c)})`.

    >>> Sigmoid(slope=20, centre=0.7).table(10)[7].item()
    0.5
    """

    slope: float = 20.0
    centre: float = 0.7

    def __post_init__(self) -> None:
        checks.number("slope", self.slope)
        checks.number("centre", self.centre)

    def at(self, u: Tensor) -> Tensor:
        return torch.sigmoid(self.slope * (u - self.centre))


@dataclass(frozen=True)
class TwoSided(Replacement):
    r""":math:`\pi(t) = \max(e^{-\lambda(1-t/T)}, e^{-\lambda t/T})`: often at both ends, seldom between.

    >>> TwoSided(5.0).table(1000)[[0, 500]].tolist()
    [1.0, 0.0821]
    """

    steepness: float = 5.0

    def __post_init__(self) -> None:
        checks.non_negative("steepness", self.steepness)

    def at(self, u: Tensor) -> Tensor:
        return torch.exp(-self.steepness * torch.minimum(u, 1 - u))


@dataclass(frozen=True)
class Constant(Replacement):
    """The same probability at every timestep; 0 never replaces, 1 always.

    >>> Constant(0.5).table(3).tolist()
    [0.5, 0.5, 0.5]
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        checks.closed_unit("probability", self.probability)

    def at(self, u: Tensor) -> Tensor:
        return torch.full_like(u, self.probability)


__all__ = ["Constant", "Exponential", "Replacement", "Sigmoid", "TwoSided"]

