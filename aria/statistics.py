"""Sums of samples by region."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aria.interfaces import RegionStats


def one_each(signal: Tensor | Sequence[float]) -> RegionStats:
    """One observation of every region; ``signal`` is (..., K).

    >>> one_each([2.0, 3.0]).square
    tensor([4., 9.], dtype=torch.float64)
    """
    y = torch.as_tensor(signal, dtype=torch.float64)
    one = torch.ones_like(y)
    return RegionStats(one, y, y * y, one)


def sum_by_region(region: Tensor, terms: Sequence[Tensor], num_regions: int) -> tuple[Tensor, ...]:
    """(K,) float64 sums of each of the ``terms``, (B,) each, over the samples of each ``region`` (B,).

    The order of the additions is fixed on every device, so the same batch gives the same bits.

    >>> sum_by_region(torch.tensor([0, 2, 2]), [torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)], 3)
    (tensor([1., 0., 5.], dtype=torch.float64),)
    """
    sums = torch.zeros(len(terms), num_regions, dtype=torch.float64, device=region.device).unbind()
    for row, term in zip(sums, terms, strict=True):
        # On accelerators index_add_ adds in any order; index_put_ sorts first.
        row.index_add_(0, region, term) if row.is_cpu else row.index_put_((region,), term, accumulate=True)
    return sums


def from_samples(region: Tensor | Sequence[int], signal: Tensor | Sequence[float], num_regions: int) -> RegionStats:
    """Sums over samples, where sample ``i`` lies in region ``region[i]`` and has the signal ``signal[i]``.

    >>> from_samples([0, 0], [1.0, 3.0], num_regions=2).total
    tensor([4., 0.], dtype=torch.float64)
    """
    y = torch.as_tensor(signal, dtype=torch.float64)  # (B,)
    where = torch.as_tensor(region, dtype=torch.int64, device=y.device)  # (B,)
    n, total, square = sum_by_region(where, [torch.ones_like(y), y, y * y], num_regions)
    return RegionStats(n, total, square, torch.ones_like(n))
