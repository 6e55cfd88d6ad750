"""Hypothesis strategies shared by the tests."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from aria.interfaces import RegionStats
from aria.statistics import from_samples

signals = st.floats(min_value=0, max_value=100, allow_nan=False, width=32)


@st.composite
def steps(
    draw: st.DrawFn, num_regions: int = 3, max_steps: int = 12, max_batch: int = 4
) -> list[list[tuple[int, float]]]:
    """A run as lists of (region, signal), one list a step, some of them empty."""
    sample = st.tuples(st.integers(0, num_regions - 1), signals)
    return draw(st.lists(st.lists(sample, max_size=max_batch), min_size=1, max_size=max_steps))


def stats_of(step: list[tuple[int, float]], num_regions: int = 3) -> RegionStats:
    """The sums of one step of :func:`steps`."""
    return from_samples([region for region, _ in step], [signal for _, signal in step], num_regions)


@st.composite
def simplex(draw: st.DrawFn, size: int) -> torch.Tensor:
    """(size,) positive shares that sum to one."""
    parts = draw(st.lists(st.floats(0.01, 1), min_size=size, max_size=size))
    shares = torch.tensor(parts, dtype=torch.float64)
    return shares / shares.sum()
