"""A ring buffer of per-region sums, shared by the window trackers."""

from __future__ import annotations

import torch
from torch import Tensor

from aria.interfaces import Device, RegionStats, State


def init(shape: tuple[int, ...], size: int, device: Device = None) -> State:
    """An empty ring: (..., K, 4, W) holding n, total, square and n·time of each slot."""
    return {
        "ring": torch.zeros((*shape, 4, size), dtype=torch.float64, device=device),
        "clock": torch.zeros(shape, dtype=torch.float64, device=device),
    }


def push(state: State, stats: RegionStats, slot: Tensor, write: Tensor) -> State:
    """The ring with ``stats`` in place of what ``slot`` (..., K) held, where ``write`` (..., K) says so."""
    clock = state["clock"] + 1
    fresh = torch.stack([stats.n, stats.total, stats.square, stats.n * clock], dim=-1)[..., None]  # (..., K, 4, 1)
    place = slot[..., None, None].expand_as(fresh)
    kept = state["ring"].gather(-1, place)
    written = torch.where(write[..., None, None], fresh.to(kept.dtype), kept)
    return {"ring": state["ring"].scatter(-1, place, written), "clock": clock}


def summary(state: State) -> State:
    """Value, mean square and certificate of the ring, in the words of :mod:`aria.trackers.recursion`."""
    n, total, square, time = state["ring"].sum(-1).unbind(-1)  # (..., K) each
    filled = n.clamp(max=1)  # 0 where the ring is empty
    count = n.clamp(min=1)
    return {
        "value": total / count,
        "square": square / count,
        "lag": filled * (state["clock"] - time / count) + (1 - filled) * state["clock"],
        "noise": filled / count,
    }
