"""What crosses the sampler's boundary, checked: one line that names the value and what is allowed."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from aria.interfaces import Allocator, Partition


def exponent(correction: str) -> float:
    """The power λ of the importance weights that a correction stands for.

    >>> exponent("tempered(0.5)")
    0.5
    """
    named = {"none": 0.0, "importance": 1.0}
    tempered = re.fullmatch(r"\s*tempered\(\s*([0-9.eE+-]+)\s*\)\s*", str(correction))
    try:
        power = float(tempered[1]) if tempered else named[correction]
    except (KeyError, ValueError):
        power = math.nan
    if not 0 <= power <= 1:
        raise ValueError(
            f'correction must be "none", "importance" or "tempered(λ)" with λ in [0, 1], got {correction!r}'
        )
    return power


def mass(partition: Partition, given: Tensor | None) -> Tensor:
    """(K,) the target mass: the partition's own, or one that agrees with it."""
    own = partition.mass
    if given is None:
        return own
    target = torch.as_tensor(given, dtype=torch.float64, device=own.device)
    if target.shape != own.shape:
        raise ValueError(f"mass must have shape ({own.shape[0]},), one share per region, got {tuple(target.shape)}")
    if not bool((target >= 0).all()):
        raise ValueError(f"mass must be non-negative, got {float(target[~(target >= 0)][0])}")
    if abs(float(target.sum()) - 1) > 1e-6:
        raise ValueError(f"mass must sum to 1, got {float(target.sum()):.6g}; write mass / mass.sum()")
    empty = ((target > 0) & (own == 0)).nonzero()
    if len(empty):
        region = int(empty[0])
        raise ValueError(
            f"region {region} is empty but has mass {float(target[region]):.6g}: it has no condition to draw"
        )
    return target / target.sum()


def region(given: Tensor, num_regions: int) -> Tensor:
    """(B,) region numbers; their range is looked at only where that does not stall a device."""
    if given.ndim != 1 or given.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"regions must be (B,) whole numbers, got {given.dtype} of shape {tuple(given.shape)}")
    if given.is_cpu and len(given) and not (0 <= int(given.min()) and int(given.max()) < num_regions):
        outside = given[(given < 0) | (given >= num_regions)][0]
        raise ValueError(f"region {int(outside)} outside 0…{num_regions - 1}")
    return given.long()


def same_shape(name: str, given: Tensor | None, like: Tensor) -> Tensor:
    """One value per sample."""
    if given is None:
        raise ValueError(
            f"{name} is needed: the sampler was made with timesteps, so observe(…, {name}=…) must tell them"
        )
    if given.shape != like.shape:
        raise ValueError(f"{name} must have one value per sample, shape {tuple(like.shape)}, got {tuple(given.shape)}")
    return given


def mask(where: Tensor, region: Tensor) -> Tensor:
    """(B,) True for the samples that count."""
    return same_shape("where", where, region).to(device=region.device, dtype=torch.bool)


def allocation(weights: Tensor, total: Tensor, mass: Tensor, allocator: Allocator) -> None:
    """What an allocator may return: K finite non-negative weights, not all zero."""
    name = type(allocator).__name__
    if weights.shape != mass.shape:
        raise ValueError(
            f"{name} must return one weight per region, shape {tuple(mass.shape)}, got {tuple(weights.shape)}"
        )
    if weights.is_cpu and not (float(weights.min()) >= 0 and 0 < float(total) < math.inf):
        what = (
            "NaN" if bool(weights.isnan().any()) else f"weights from {float(weights.min())} to {float(weights.max())}"
        )
        raise ValueError(f"{name} must return finite non-negative weights that are not all zero, got {what}")
