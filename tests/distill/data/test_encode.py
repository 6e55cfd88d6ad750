"""Encoding: the cache holds the outputs of the teacher's own encoder, once for each distinct text."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aria.distill.data import Conditions, build_conditions, store
from aria.distill.data.keys import distinct
from aria.distill.data.prompts import Column, Prompts, Texts
from aria.distill.data.store import Store
from aria.distill.models import denoisers
from aria.distill.models.pipelines import open_pipeline
from aria.tensor_files import write_tensors

TEXTS = ["a cat", "a dog", "a cat", "an axolotl in a jar", "a dog", "ein Bär"]


@pytest.fixture(scope="module", params=["sd_folder", "sdxl_folder"])
def pipeline(request):
    return open_pipeline(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def made(sd_folder, tmp_path_factory):
    """A cache that is only read."""
    folder = tmp_path_factory.mktemp("made")
    build(open_pipeline(sd_folder), folder)
    return folder


def prompts(texts=TEXTS):
    return Prompts(Texts.of(texts), {"length": Column.of(map(len, texts))})


def build(pipeline, folder, texts=TEXTS, **options):
    build_conditions(pipeline, denoisers.of(pipeline), prompts(texts), folder, **{"batch_size": 3} | options)
    return Conditions(folder)


def test_rows_are_the_outputs_of_the_encoder(pipeline, tmp_path):
    denoiser = denoisers.of(pipeline)
    cached = build(pipeline, tmp_path, dtype=torch.float32)
    direct = denoiser.encode(pipeline, TEXTS, "cpu")
    found = cached.gather(torch.arange(len(TEXTS)))
    assert found.keys() == direct.keys() and len(cached) == len(TEXTS)
    for name, x in direct.items():
        torch.testing.assert_close(found[name], x)
    torch.testing.assert_close(torch.from_numpy(cached.pool().embeddings[:]), denoiser.features(direct))


def test_equal_texts_share_a_row(pipeline, tmp_path):
    cached = build(pipeline, tmp_path)
    assert len(cached.store) == 4
    found = next(iter(cached.gather(torch.tensor([0, 2])).values()))
    assert found.dtype == torch.float16 and torch.equal(found[0], found[1])


def test_the_null_condition_is_the_pipelines_own(pipeline, tmp_path):
    null = build(pipeline, tmp_path, dtype=torch.float32).null(3)
    for name, x in denoisers.of(pipeline).null(pipeline, "cpu").items():
        torch.testing.assert_close(null[name], x.expand(3, *x.shape[1:]))
    if "pooled" in null:
        assert not null["pooled"].any() and not null["prompt_embeds"].any()


def test_interrupted_and_extended_caches_are_the_same_as_those_made_at_once(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHARD_BYTES", 1)
    whole = build(pipeline, tmp_path / "whole")
    with pytest.raises(InterruptedError):
        build(pipeline, tmp_path / "parts", progress=interrupt_at(3))
    with pytest.raises(ValueError, match="is unfinished, it holds 3 of 4 rows"):
        Conditions(tmp_path / "parts")
    build(pipeline, tmp_path / "grown", TEXTS[:3])
    for folder in ("parts", "grown"):
        again = build(pipeline, tmp_path / folder)
        for name, x in whole.gather(torch.arange(6)).items():
            torch.testing.assert_close(again.gather(torch.arange(6))[name], x, rtol=2e-3, atol=2e-3)
        assert list(again.prompts.texts) == TEXTS
        assert list(again.pool().column("length")) == list(map(len, TEXTS))


def interrupt_at(row):
    def progress(done, total):
        if done >= row:
            raise InterruptedError

    return progress


def test_an_embedding_beyond_the_type_is_refused(tmp_path, sd_folder):
    pipeline = open_pipeline(sd_folder)
    pipeline.text_encoder.final_layer_norm = torch.nn.Linear(8, 8)
    torch.nn.init.constant_(pipeline.text_encoder.final_layer_norm.weight, 1e6)
    with pytest.raises(ValueError, match=r"is not finite in torch.float16: use bf16"):
        build(pipeline, tmp_path)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda p: p.text_encoder.get_input_embeddings().weight.data.mul_(1.01), "text_encoder weights"),
        (lambda p: setattr(p.tokenizer, "model_max_length", 10), "tokenizer length"),
        (lambda p: p.tokenizer.add_tokens(["<new>"]), "tokenizer"),
        (lambda p: setattr(p.text_encoder.config, "hidden_act", "gelu"), "text_encoder config"),
        (lambda p: p.unet.register_to_config(sample_size=16), "latent size"),
    ],
)
def test_another_encoder_is_refused_by_what_differs(change, part, made, sd_folder):
    pipeline = open_pipeline(sd_folder)
    change(pipeline)
    with pytest.raises(ValueError, match=f"was made with {part} = .*: use another folder"):
        Conditions(made, pipeline=pipeline)
    with pytest.raises(ValueError, match=f"was made with {part} = "):
        build(pipeline, made)


def test_the_same_encoder_is_taken_in_full_and_in_the_stored_precision(made, sd_folder):
    Conditions(made, pipeline=open_pipeline(sd_folder, dtype=torch.float16))
    pipeline = open_pipeline(sd_folder)
    pipeline.tokenizer(["a", "b c"], padding="longest", truncation=True, max_length=5)  # which changes its settings
    Conditions(made, pipeline=pipeline)


def test_other_pipelines_and_types_are_refused(made, sd_folder, sdxl_folder):
    with pytest.raises(ValueError, match="made with dtype = 'float16', this is 'bfloat16'"):
        build(open_pipeline(sd_folder), made, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="made with force_zeros_for_empty_prompt = 'None', this is 'True'"):
        Conditions(made, pipeline=open_pipeline(sdxl_folder))


def test_files_of_another_cache_are_refused(pipeline, tmp_path):
    for name, texts in (("a", TEXTS), ("few", TEXTS[::-1][:2]), ("many", [*TEXTS, "a fox"])):
        build(pipeline, tmp_path / name, texts)
    write_tensors(tmp_path / "few" / "null.safetensors", {"other": [torch.zeros(1)]})
    for name, other, sentence in [
        ("null", "few", "its null condition has"),
        ("prompts", "few", "holds other texts than the rows beside it"),
        ("prompts", "many", "does not fit the 4 rows beside it"),
    ]:
        path = tmp_path / "a" / f"{name}.safetensors"
        kept = path.read_bytes()
        path.write_bytes((tmp_path / other / path.name).read_bytes())
        with pytest.raises(ValueError, match=sentence):
            Conditions(tmp_path / "a")
        path.write_bytes(kept)
    (tmp_path / "a" / "prompts.safetensors").unlink()
    with pytest.raises(ValueError, match="prompts.safetensors does not exist"):
        Conditions(tmp_path / "a")


@given(st.lists(st.sampled_from(["", "a", "b", "ab", "aa", "c"]), min_size=1, max_size=30))
def test_distinct_texts_in_order_of_first_appearance(texts):
    first, row = distinct(Texts.of(texts))
    unique = list(dict.fromkeys(texts))
    assert [texts[i] for i in first] == unique
    assert [unique[i] for i in row] == texts


def test_bf16_is_stored(pipeline, tmp_path):
    cached = build(pipeline, tmp_path, dtype=torch.bfloat16)
    assert Store(tmp_path).names["prompt_embeds"][0] == torch.bfloat16
    assert cached.gather(torch.tensor([1]))["prompt_embeds"].dtype == torch.bfloat16
