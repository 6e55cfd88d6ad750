"""Checks of everything that enters the sampler; each error is one line with the value and what is allowed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aria.checks import InvalidSetting
from aria.interfaces import Allocator, Partition, Tracker


def mass(partition: Partition, given: Tensor | None) -> Tensor:
    """(K,) the target mass: the partition's own, or one that agrees with it."""
    if not isinstance(partition, Partition):
        raise ValueError(f"a sampler needs a fitted partition, partitioner.fit(pool), got {partition!r}")
    own = _distribution("the partition's mass", partition.mass, partition.mass.shape[0])
    if given is None:
        return partition.mass if partition.mass.dtype == torch.float64 else own
    target = _distribution("mass", given, len(own)).to(own.device)
    empty = ((target > 0) & (own == 0)).nonzero()
    if len(empty):
        region = int(empty[0])
        raise ValueError(
            f"region {region} is empty but has mass {float(target[region]):.6g}: it has no condition to draw"
        )
    return target


def _distribution(name: str, given: Tensor, size: int) -> Tensor:
    """(K,) float64 shares that sum to one, to within rounding exactly what was given."""
    shares = torch.as_tensor(given, dtype=torch.float64)
    if shares.shape != (size,):
        raise ValueError(f"{name} must have shape ({size},), one share per region, got {tuple(shares.shape)}")
    if not bool((shares >= 0).all()):
        raise ValueError(f"{name} must be non-negative, got {float(shares[~(shares >= 0)][0])}")
    total = float(shares.sum())
    if not abs(total - 1) <= 1e-6:
        raise ValueError(f"{name} must sum to 1, got {total:.6g}; write mass / mass.sum()")
    return shares if abs(total - 1) <= 1e-12 else shares / total


def parents(given: Tensor, coarse: Tensor, fine: Tensor) -> Tensor:
    """(K',) the old region each new one came out of; the children's mass (K',) must add up to the parents' (K,)."""
    parent = region(given.to(coarse.device), len(coarse))
    if parent.shape != fine.shape:
        raise ValueError(f"parent must name one old region per new one, {len(fine)}, got {len(parent)}")
    if not torch.allclose(torch.zeros_like(coarse).index_add(0, parent, fine), coarse, rtol=1e-6, atol=1e-12):
        raise ValueError("the masses of the new regions do not add up to those of their parents")
    return parent


def visit(given: Tensor, mass: Tensor) -> Tensor:
    """(K,) probabilities; their range is checked on a CPU only, because it would synchronise with a device."""
    if given.shape != mass.shape:
        raise ValueError(
            f"visit must have one probability per region, shape {tuple(mass.shape)}, got {tuple(given.shape)}"
        )
    if given.is_cpu and not bool(((given >= 0) & (given <= 1)).all()):
        raise ValueError(f"visit must be probabilities in [0, 1], got values from {given.min()} to {given.max()}")
    return given.to(mass)


def region(given: Tensor, num_regions: int) -> Tensor:
    """(B,) region numbers; their range is checked on a CPU only, because it would synchronise with a device."""
    if not isinstance(given, Tensor):
        raise ValueError(f"observe takes a Draw or a tensor of regions, got {type(given).__name__}")
    if given.ndim != 1 or given.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"regions must be (B,) integers, got {given.dtype} of shape {tuple(given.shape)}")
    if given.is_cpu and len(given) and not (0 <= int(given.min()) and int(given.max()) < num_regions):
        outside = given[(given < 0) | (given >= num_regions)][0]
        raise ValueError(f"region {int(outside)} outside 0…{num_regions - 1}")
    return given.long()


def same_shape(name: str, given: Tensor | None, like: Tensor) -> Tensor:
    """One value per sample."""
    if given is None and name == "timestep":
        raise ValueError(
            f"{name} is needed: the sampler was made with timesteps, so pass them: observe(…, {name}=…)"
        )
    if not isinstance(given, Tensor):
        raise ValueError(f"{name} must be a tensor with one value per sample, got {type(given).__name__}")
    if given.shape != like.shape:
        raise ValueError(f"{name} must have one value per sample, shape {tuple(like.shape)}, got {tuple(given.shape)}")
    return given


def mask(name: str, given: Tensor, size: int, device: torch.device) -> Tensor:
    """(size,) True for the samples that count."""
    if not isinstance(given, Tensor) or given.shape != (size,):
        got = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise ValueError(f"{name} must have one value per sample, shape ({size},), got {got}")
    return given.to(device=device, dtype=torch.bool)


def known_visit(visit: Tensor | None, tracker: Tracker) -> Tensor:
    """(K,) the visit probabilities that a tracker which divides by them cannot do without."""
    if visit is None:
        raise InvalidSetting(
            "visit",
            "missing",
            f"{type(tracker).__name__} divides by the probability that a step observes each region, known only for "
            "whole draws: call observe(draw, …) without where, or observe(…, visit=…) with (K,) probabilities",
        )
    return visit


def weights(given: Tensor, mass: Tensor, allocator: Allocator) -> None:
    """The allocator, possibly user code, has to return (K,) weights."""
    if not isinstance(given, Tensor) or given.shape != mass.shape:
        got = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        name = type(allocator).__name__
        raise ValueError(f"{name} must return one weight per region, shape {tuple(mass.shape)}, got {got}")


def allocation(weights: Tensor, total: Tensor, allocator: Allocator) -> None:
    """The weights have to be finite, non-negative and not all zero."""
    name = type(allocator).__name__
    if weights.is_cpu and not (float(weights.min()) >= 0 and 0 < float(total) < math.inf):
        what = (
            "NaN" if bool(weights.isnan().any()) else f"weights from {float(weights.min())} to {float(weights.max())}"
        )
        raise ValueError(f"{name} must return finite non-negative weights that are not all zero, got {what}")
