r"""On-policy rows: inputs that the student makes itself.

A share of every batch belongs to conditions that the sampler draws, each for a few steps. In the first of them the row
is as random conditioning has it: an unrelated image, at a high noise level. In the following steps it is where the
student's own output leads, one step of a deterministic sampler to a level of the next lower band:

.. math:: x_t = \alpha_t\,\hat x_0 + \sigma_t\,\hat\epsilon, \qquad
   \hat x_0, \hat\epsilon \text{ the student's estimates of image and noise in the step before}.

So the student is corrected where its own sampling leads it, for conditions without images too, and no model is
evaluated more often than without. The idea is that of S. Ross et al., "A reduction of imitation learning and structured
prediction to no-regret online learning" (AISTATS 2011), and of distillation on the student's own outputs (R. Agarwal et
al., ICLR 2024; J. Kohler et al., "Imagine Flash", 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from aria import checks
from aria.distill.settings.config import ON_POLICY_HOPS


@dataclass(frozen=True)
class OnPolicy:
    """How many rows of a batch are on-policy, and for how many steps each keeps its condition."""

    share: float = 0.0
    """Of every batch."""
    hops: int = ON_POLICY_HOPS
    """Steps from the highest band of noise levels to the lowest."""

    def __post_init__(self) -> None:
        checks.closed_unit("share", self.share)
        checks.whole("hops", self.hops, least=2)

    def rows(self, total: int) -> Tensor:
        """(total,) which rows of a step are on-policy: evenly spread, so that every rank has its share.

        >>> OnPolicy(share=0.5).rows(4).tolist()
        [False, True, False, True]
        """
        last = (torch.arange(total + 1, dtype=torch.float64) * self.share + 1e-9).floor()
        return last[1:] > last[:-1]


class Held(NamedTuple):
    """What a row keeps from hop to hop, (total,) each: rows of all ranks."""

    begins: Tensor
    """Whether its condition is new."""
    since: Tensor
    """The step that drew its condition."""
    condition: Tensor
    """Its condition's position in the pool."""
    weight: Tensor
    """Its importance weight."""
    null: Tensor
    """Whether the condition is dropped."""
    offset: Tensor
    """Where in each band its noise level lies, in [0, 1)."""
    guidance: Tensor
    """Its guidance scale; 0 where there is none."""


class Rows:
    """The on-policy rows of a step on all ranks. At which hop each one is depends on the step alone."""

    def __init__(self, settings: OnPolicy, total: int, timesteps: Tensor, device: torch.device) -> None:
        """``timesteps`` (n,) are those that rows pass through."""
        self.hops = settings.hops
        self.timesteps = timesteps.sort().values.to(device)  # (n,) the noisiest last
        rows = settings.rows(total)
        self.mask = rows.to(device)  # (total,)
        self._number = (rows.cumsum(0) - 1).to(device)  # (total,) of the row among the on-policy ones

    def hop(self, step: int) -> Tensor:
        """(total,) the hop each row is at, from 0; neighbours are at different ones."""
        return (self._number + step) % self.hops

    def begins(self, step: int, held: Held | None) -> Tensor:
        """(total,) which rows take a new condition: those at their first hop, or all where nothing is held yet."""
        return self.mask if held is None else self.mask & (self.hop(step) == 0)

    def carry(self, new: Held, held: Held | None) -> Held:
        """What is held at this step."""
        if held is None:
            return new
        return Held(*(torch.where(new.begins, a, b) for a, b in zip(new, held)))._replace(begins=new.begins)

    def drawn_from(self, step: int, held: Held) -> Tensor:
        """(total,) which rows hold a condition that was drawn at this step or later."""
        return self.mask & (held.since >= step)

    def timestep(self, step: int, held: Held) -> Tensor:
        """(total,) timesteps, one band lower at every hop."""
        left = 1 - (self.hop(step) + held.offset) / self.hops  # (total,) in (0, 1]
        levels = len(self.timesteps)
        return self.timesteps[(left * levels).long().clamp(0, levels - 1)]
