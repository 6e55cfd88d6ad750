"""Z-Image in half precision, whose pipeline keeps latents in float32, and guided as its pipeline guides."""

from __future__ import annotations

import pytest
import torch

from aria.distill.models import denoisers
from aria.distill.models.pipelines import open_pipeline


def test_images_in_half_precision(zimage_folder):
    pipeline = open_pipeline(zimage_folder, dtype=torch.bfloat16)
    adapter = denoisers.of(pipeline)
    condition, null = adapter.encode(pipeline, ["a cat", "a dog in the snow"], "cpu"), adapter.null(pipeline, "cpu")
    noise = torch.randn(2, *adapter.shape(pipeline, 16), dtype=torch.bfloat16)
    latents = adapter.generate(pipeline, condition, null, noise, steps=2, guidance=3.0)
    assert latents.dtype == torch.float32 and latents.shape == noise.shape and bool(latents.isfinite().all())


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_the_scale_counts_from_zero(scale):
    without, conditioned = torch.randn(2, 3, 4, 2, 2).unbind()
    guided = denoisers.ZImage().guide(without, conditioned, torch.full((3,), scale))
    torch.testing.assert_close(guided, conditioned + scale * (conditioned - without))


def test_embeddings_are_padded_to_the_same_length_whatever_the_texts(zimage_folder):
    pipeline = open_pipeline(zimage_folder)
    condition = denoisers.of(pipeline).encode(pipeline, ["a cat", "a dog in snow"], "cpu")
    assert condition["prompt_embeds"].shape == (2, 512, 12) and condition["mask"].sum(1).tolist() == [8 + 5, 8 + 13]
    blank = condition["mask"] == 0
    assert not condition["prompt_embeds"][blank].any() and condition["prompt_embeds"][~blank].any(-1).all()
