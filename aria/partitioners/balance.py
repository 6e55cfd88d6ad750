"""Offsets that make clusters about equally large: a power diagram by dual ascent."""

from __future__ import annotations

import torch
from torch import Tensor

from aria.partitioners.embeddings import CELLS, distances

GROW, SHRINK, START, STEPS = 1.2, 0.5, 0.05, 2000


def balancing_offsets(x: Tensor, centroids: Tensor, weight: Tensor, tolerance: float) -> Tensor:
    r"""Offsets :math:`\psi` (K,) for which no region exceeds ``1 + tolerance`` times the mean region.

    With points :math:`x_i` (n, D) of weight :math:`w_i` (n,), summing to one, and centroids :math:`c_k` (K, D), the
    rule is :math:`k(x) = \arg\min_k |x - c_k|^2 + \psi_k`. It is optimal for the semi-discrete transport problem
    that gives each centroid the weight :math:`1/K`, whose concave dual and its gradient are

    .. math:: g(\psi) = \sum_i w_i \min_k(|x_i - c_k|^2 + \psi_k) - \frac1K \sum_k \psi_k, \qquad
              \partial_k g = w(\text{region } k) - \frac1K .

    A region that is too large is pushed away. Each offset has its own step, which grows while the sign of its
    gradient lasts and halves when it turns (resilient propagation, Riedmiller and Braun 1993), so that there is no
    scale to tune. The bound holds on the points given; no offset can separate points that coincide.
    """
    regions = len(centroids)
    cost = torch.cat([distances(part, centroids) for part in torch.split(x, 4096)])
    spread = float((cost.min(1).values + ((x - centroids.median(0).values) ** 2).sum(1)).mean().clamp(min=1e-12))
    offset, step = torch.zeros(regions), torch.full((regions,), START * spread)
    previous, best = torch.zeros(regions), float("inf")
    for _ in range(STEPS):
        nearest = torch.cat([(part + offset).argmin(1) for part in torch.split(cost, 4096)])
        excess = torch.bincount(nearest, weights=weight, minlength=regions).float() * regions - 1
        best = min(best, float(excess.max()))
        if best <= tolerance:
            return offset
        turn = (excess * previous).sign()
        step = step * torch.where(turn > 0, GROW, torch.where(turn < 0, SHRINK, 1.0))
        offset = offset + step * excess.sign()
        offset, previous = offset - offset.mean(), excess
    raise ValueError(
        f"kmeans: balanced={tolerance} was not reached: the largest region stays {1 + best:.2f} times the mean "
        f"(coinciding embeddings cannot be divided); allow at least balanced={best:.2f} or fewer regions than {regions}"
    )


def balancing_rows(regions: int) -> int:
    """Number of points whose distances to all centroids fit in memory."""
    return max(CELLS // regions, 1)
