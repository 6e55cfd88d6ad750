"""What families of videos have in common: how many frames there are, and of what size."""

from __future__ import annotations

from typing import Any

from aria.distill.models.denoisers.base import Denoiser, default_of, side_of


class Video(Denoiser):
    """A family whose latents are (N, C, F, H, W).

    Its models take videos of any size; where none is given, length and size are the defaults of its pipelines. The
    autoencoder is causal in time: the first frame has a latent of its own, and every further latent is as many frames
    as :meth:`time_scale` says.
    """

    def frames(self, pipeline: Any, wanted: int | None = None) -> int:
        count = int(default_of(pipeline.__call__, "num_frames")) if wanted is None else wanted
        every = self.time_scale(pipeline)
        if count < 1 or (count - 1) % every:
            raise ValueError(f"num_frames must be 1 more than a multiple of {every} for this pipeline, got {count}")
        return count

    def latent_shape(self, pipeline: Any, resolution: int | None = None) -> tuple[int, ...]:
        config, scale = self.model_of(pipeline).config, self.scale(pipeline)
        height, width = (int(default_of(pipeline.__call__, name)) // scale for name in ("height", "width"))
        if resolution is not None:
            height = width = side_of(resolution, scale, self.patch(config))
        return int(config.in_channels), height, width

    def patch(self, config: Any) -> int:
        """Latents a side of what a model with this ``config`` takes as one position."""
        return int(config.patch_size if isinstance(config.patch_size, int) else config.patch_size[-1])
