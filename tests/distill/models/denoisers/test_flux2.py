"""FLUX.2: latents in patches and places as its pipeline has them, and a tokenizer in a processor."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import ProcessorMixin

from aria.distill.data import encode
from aria.distill.models import denoisers
from aria.distill.models.denoisers.base import scaling_of
from aria.distill.models.denoisers.flux2 import places
from aria.distill.models.denoisers.packing import flat
from aria.distill.models.pipelines import open_pipeline
from aria.testing import check_denoiser

TEXTS = ["a red cat", "a Dog", "an old house by the sea"]


class Processor(ProcessorMixin):
    """Of texts alone: Pixtral's, which published pipelines have, needs torchvision."""

    def __init__(self, tokenizer=None, chat_template=None):
        super().__init__(tokenizer, chat_template=chat_template)


@pytest.fixture(scope="module")
def pipeline(flux2_folder):
    return open_pipeline(flux2_folder)


def test_patches_and_places_are_the_pipelines_own(pipeline):
    adapter, latents = denoisers.of(pipeline), torch.randn(2, 4, 6, 10)
    patched = adapter.from_autoencoder(latents)
    assert torch.equal(patched, pipeline._patchify_latents(latents)) and patched.shape == (2, 16, 3, 5)
    assert torch.equal(adapter.to_autoencoder(patched), latents)
    assert torch.equal(flat(patched), pipeline._pack_latents(patched))
    assert torch.equal(adapter.unpack(flat(patched), patched), patched)
    assert torch.equal(places(patched, (1, 3, 5, 1)), pipeline._prepare_latent_ids(patched))
    assert torch.equal(places(patched, (1, 1, 1, 7)), pipeline._prepare_text_ids(torch.zeros(2, 7, 1)))


def test_latents_are_scaled_by_the_batch_norm(pipeline):
    norm = copy.deepcopy(pipeline.vae.bn).eval()
    patched = torch.randn(2, 16, 3, 5)
    shift, factor = scaling_of(pipeline.vae, patched)
    torch.testing.assert_close((patched - shift) * factor, norm(patched))


def test_sizes_of_latents(pipeline):
    adapter = denoisers.of(pipeline)
    assert adapter.latent_shape(pipeline) == (16, 64, 64) and adapter.latent_shape(pipeline, 16) == (16, 4, 4)
    with pytest.raises(ValueError, match="resolution must be a multiple of 4 for this pipeline, got 18"):
        adapter.latent_shape(pipeline, 18)


def test_a_tokenizer_in_a_processor(pipeline):
    held, adapter = copy.copy(pipeline), denoisers.of(pipeline)
    held.tokenizer = Processor(pipeline.tokenizer, chat_template=pipeline.tokenizer.chat_template)
    check_denoiser(adapter, held, texts=TEXTS, resolution=16)
    limit = adapter.token_limit(held)
    assert limit.tokenizer is pipeline.tokenizer and limit.tokens == adapter.token_limit(pipeline).tokens
    alike = [encode.conditions_fingerprint(one, adapter, torch.float32) for one in (held, pipeline)]
    assert alike[0] == alike[1]


def test_conditions_depend_on_the_template_and_on_the_system_message(pipeline):
    adapter, other, third = denoisers.of(pipeline), copy.copy(pipeline), copy.copy(pipeline)
    other.system_message = "You are a painter."
    third.tokenizer = copy.copy(pipeline.tokenizer)
    third.tokenizer.chat_template = "{{ messages[1].content[0].text }}"
    assert len({str(adapter.depends_on(one)) for one in (pipeline, other, third)}) == 3


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("folder", ["flux2_folder", "klein_folder"])
def test_features_are_those_of_the_whole_prompt_on_whichever_side_there_is_padding(folder, side, request):
    pipeline = open_pipeline(request.getfixturevalue(folder))
    pipeline.tokenizer.padding_side = side
    adapter = denoisers.of(pipeline)
    features = adapter.features(adapter.encode(pipeline, ["a red cat", "a red dog", "b red cat"], "cpu"))
    assert features.shape == (3, 8)
    assert min(float((features[i] - features[j]).abs().max()) for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-3
