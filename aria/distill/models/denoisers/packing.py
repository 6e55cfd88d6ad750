"""Latents as positions of a model: one by one, or in patches of 2 by 2 with the channels of their four latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from aria.distill.models.denoisers.base import Denoiser, side_of

PATCH = 2
"""Latents a side of what a pipeline packs into one position."""


class Packed(Denoiser):
    """A family whose pipelines pack latents.

    Latents are (N, C, H, W), as the autoencoder has them, and packed into (N, HW/4, 4C) only for the model and the
    pipeline. Noise, flows and their errors are taken entry by entry, so the order of entries changes nothing; and the
    positions of the patches, which the model takes as well, are those of H and W, which a packed latent does not hold.
    """

    def packed_inputs(self, pipeline: Any, noise: Tensor) -> dict[str, Any]:
        """The starting noise and the size of its images, as the pipeline's call takes them."""
        height, width = (side * self.scale(pipeline) for side in noise.shape[2:])
        return {"latents": pack(noise), "height": height, "width": width}

    def unpack(self, latents: Tensor, like: Tensor) -> Tensor:
        """(N, HW/4, 4C) → (N, C, H, W), the shape of ``like``: the reverse of :func:`pack`."""
        return pixel_shuffle(unflat(latents, [side // PATCH for side in like.shape[2:]]), PATCH)

    def latent_shape(self, pipeline: Any, resolution: int | None = None) -> tuple[int, ...]:
        """(C, H, W), of the pipeline's own size unless there is another: its model has none."""
        side = int(pipeline.default_sample_size)
        if resolution is not None:
            side = side_of(resolution, self.scale(pipeline), PATCH)
        return int(pipeline.transformer.config.in_channels) // PATCH**2, side, side

    def scale(self, pipeline: Any) -> int:
        return int(pipeline.vae_scale_factor)


def pack(latents: Tensor) -> Tensor:
    """(N, C, H, W) → (N, HW/4, 4C): the four latents of each patch, channel by channel, become one position."""
    return flat(pixel_unshuffle(latents, PATCH))


def flat(latents: Tensor) -> Tensor:
    """(N, C, H, W) → (N, HW, C), or (N, C, F, H, W) → (N, FHW, C): every latent is a position."""
    return latents.flatten(2).transpose(1, 2)


def unflat(latents: Tensor, sides: Sequence[int]) -> Tensor:
    """(N, P, C) → (N, C, *sides): the reverse of :func:`flat`."""
    return latents.transpose(1, 2).reshape(len(latents), -1, *sides)
