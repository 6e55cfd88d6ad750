r"""Metrics of the difference between students' and their teacher's images.

The primary metric is the **generation gap**: the mean squared difference between the images that student and teacher
make from the same noise in a few steps of a deterministic sampler. An unweighted average of noise-prediction errors
over all timesteps ranks methods wrongly, since it is dominated by low noise levels, where a student needs no condition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from aria.distill.models.schedule import NoiseSchedule

Predict = Callable[[Tensor, Tensor], Tensor]
"""(…, B, C, H, W) noised latents and (B,) timesteps to predicted noise."""


def ddim(predict: Predict, start: Tensor, schedule: NoiseSchedule, steps: int = 15) -> Tensor:
    r"""The images made from ``start`` by :math:`x_{s} = \alpha_s \hat x_0 + \sigma_s \hat\epsilon` in ``steps`` steps
    (J. Song et al., "Denoising diffusion implicit models", ICLR 2021)."""
    times = torch.linspace(len(schedule) - 1, 0, steps + 1).round().long()
    x = start
    for now, then in pairwise(times):
        alpha, sigma = schedule.alpha[now], schedule.sigma[now]
        noise = predict(x, now)
        clean = (x - sigma * noise) / alpha
        x = schedule.alpha[then] * clean + schedule.sigma[then] * noise
    return x


def gap(ours: Tensor, theirs: Tensor, dims: int) -> Tensor:
    """Mean squared difference over the last ``dims`` axes."""
    return (ours - theirs).square().flatten(-dims).mean(-1)


def snr_weighted(ours: Tensor, theirs: Tensor, timestep: Tensor, schedule: NoiseSchedule, cap: float = 5.0) -> Tensor:
    """(…, B) squared error of the images that noise predictions imply, times min(SNR, cap)."""
    error = (ours - theirs).square().flatten(-3).mean(-1)
    snr = schedule.snr(timestep)
    return error * snr.clamp(max=cap) / snr


def spread(gaps: Tensor, labels: Sequence[str]) -> float:
    """How much regions differ in difficulty: the standard deviation over labels of the logarithm of the mean gap (N,).

    Where it is small there is nothing to allocate: no split of the effort over regions is much better than another.

    >>> round(spread(torch.tensor([1.0, 1.0, 2.0, 4.0]), ["a", "a", "b", "b"]), 4)
    0.7768
    """
    names = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    index = torch.tensor([names[label] for label in labels])
    total = torch.zeros(len(names), dtype=torch.float64).index_add(0, index, gaps.double())
    return float((total / torch.bincount(index)).log().std())
