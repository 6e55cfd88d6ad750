"""Qwen-Image and Lumina-Image 2.0 in training: guided in outputs of unchanged length; weights without effect rest."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator

import aria
from aria.distill.data.memory import EncodingsInMemory
from aria.distill.models import denoisers
from aria.distill.models.denoisers.guidance import GUIDANCE, classifier_free
from aria.distill.models.denoisers.packing import pack
from aria.distill.models.pipelines import open_pipeline
from aria.distill.teachers.guidance import guided
from aria.distill.teachers.teacher import Teacher
from tests.distill import pipelines, tiny

TEXTS = ["a red cat", "a Dog", "an old house by the sea", "b"]


@pytest.fixture(scope="module")
def qwen(qwen_folder):
    return open_pipeline(qwen_folder)


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_packing_is_the_pipelines_own(qwen):
    latents = noise(2, 4, 6, 10)
    assert torch.equal(pack(latents), qwen._pack_latents(latents, 2, 4, 6, 10))


def test_conditions_are_padded_to_what_the_pipeline_takes(qwen):
    adapter = denoisers.of(qwen)
    condition = adapter.encode(qwen, TEXTS, "cpu")
    assert condition["prompt_embeds"].shape == (4, 512, 16) and condition["mask"].shape == (4, 512)
    tokens = [len(qwen.tokenizer(f"{text}<|im_end|>\n<|im_start|>assistant\n").input_ids) for text in TEXTS]
    assert condition["mask"].sum(1).tolist() == tokens
    assert not bool(condition["prompt_embeds"][condition["mask"] == 0].any())


@torch.no_grad()
@pytest.mark.parametrize("folder", ["qwen_folder", "lumina_folder"])
def test_a_guided_teacher_keeps_the_length_of_what_it_says_under_the_prompt(folder, request):
    """Patch by patch in Qwen-Image, and row by row of latents in Lumina-Image; at scale 1 nothing changes."""
    pipeline = open_pipeline(request.getfixturevalue(folder))
    adapter, teacher = denoisers.of(pipeline), Teacher.of(pipeline)
    null, condition = adapter.null(pipeline, "cpu"), adapter.encode(pipeline, TEXTS[:2], "cpu")
    noisy, timestep, scale = noise(2, 4, 8, 8), torch.tensor([300, 900]), torch.tensor([1.0, 5.0])
    made = guided(teacher, null).evaluate(pipeline.transformer, noisy, timestep, condition | {GUIDANCE: scale})
    under, without = (teacher.denoiser(pipeline.transformer, noisy, timestep, part) for part in (
        condition, {name: value.expand(2, *value.shape[1:]) for name, value in null.items()}))  # fmt: skip
    plain = classifier_free(without, under, scale)
    rows = pack if folder == "qwen_folder" else (lambda latents: latents)
    torch.testing.assert_close(rows(made).norm(dim=-1), rows(under).norm(dim=-1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made[0], under[0], rtol=1e-4, atol=1e-5)
    alike = torch.cosine_similarity(rows(made), rows(plain), dim=-1)
    torch.testing.assert_close(alike, torch.ones_like(alike), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(made[1], plain[1], atol=1e-3)


def test_weights_without_effect_are_not_trained_and_all_others_are(qwen):
    """Ranks would wait for the gradients of the former."""
    adapter, student = denoisers.of(qwen), pipelines.qwen(num_layers=2)
    pool = EncodingsInMemory(adapter.encode(qwen, TEXTS, "cpu"), adapter.null(qwen, "cpu"))
    partition = aria.partitioners.Labels("label").fit(aria.Pool(columns={"label": [0, 1, 0, 1]}))
    sampler, shown = aria.Sampler(partition, timesteps=1000), tiny.shown(noise(5, 4, 8, 8), 4)
    settings = {"batch_size": 4, "accelerator": Accelerator(cpu=True), "ema_decay": 0.5, "objective": ("output",)}
    made = tiny.distiller(Teacher.of(qwen), student, sampler, shown, pool, **settings)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    made.step()
    made.check()
    changed = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    last = "transformer_blocks.1."
    rest = {name for name in before if name.startswith((f"{last}txt_mlp.", f"{last}attn.to_add_out."))}
    assert len(rest) == 6 and changed == before.keys() - rest
