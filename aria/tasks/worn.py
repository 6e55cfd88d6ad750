"""Pictures as a small generator might make them, on which classifiers are trained that judge generated pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def worn(images: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 3, H, W) images, some slightly blurred, all slightly noisy."""
    soft = nn.functional.avg_pool2d(nn.functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = 0.8 * torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device)
    noise = 0.1 * torch.randn(images.shape, generator=generator, device=images.device)
    mixed: Tensor = images + share * (soft - images) + noise
    return mixed
