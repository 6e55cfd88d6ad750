"""Wan in training: videos of five axes, sizes that a user gives, and parts of the teacher that stay in float32."""

from __future__ import annotations

import copy

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image

import aria
from aria import progress
from aria.distill.data import cache
from aria.distill.data.memory import EncodingsInMemory
from aria.distill.engine.on_policy import OnPolicy
from aria.distill.evaluation import grids
from aria.distill.models import denoisers
from aria.distill.models.pipelines import open_model, open_pipeline
from aria.distill.objectives import Feature
from aria.distill.teachers.teacher import Teacher
from tests.distill import pipelines, tiny
from tests.distill.models.denoisers.test_denoisers import nobody_looks

TEXTS = ["a red cat", "a Dog", "an old house by the sea", "b"]
LATENT = (4, 2, 4, 6)
"""Of 5 frames."""


@pytest.fixture(scope="module")
def pipeline(wan_folder):
    return open_pipeline(wan_folder)


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def distiller(pipeline, student, **settings):
    adapter = denoisers.of(pipeline)
    pool = EncodingsInMemory(adapter.encode(pipeline, TEXTS, "cpu"), adapter.null(pipeline, "cpu"))
    partition = aria.partitioners.Labels("label").fit(aria.Pool(columns={"label": [0, 1, 0, 1]}))
    kwargs = {"batch_size": 4, "accelerator": Accelerator(cpu=True), "ema_decay": 0.0, **settings}
    shown = tiny.shown(noise(5, *LATENT), 4)
    return tiny.distiller(Teacher.of(pipeline), student, aria.Sampler(partition, timesteps=1000), shown, pool, **kwargs)


def heard(model, call):
    """What ``model`` is called with while ``call`` runs."""
    found = []
    hook = model.register_forward_pre_hook(lambda _, args, kwargs: found.append(kwargs), with_kwargs=True)
    try:
        call()
    finally:
        hook.remove()
    return found


def test_sizes_of_videos(pipeline):
    adapter = denoisers.of(pipeline)
    assert adapter.frames(pipeline) == 81 and adapter.shape(pipeline) == (4, 21, 120, 208)
    assert adapter.shape(pipeline, 16, 5) == (4, 2, 4, 4)
    assert adapter.shape(pipeline, 24, 1) == (4, 1, 6, 6)
    with pytest.raises(ValueError, match="resolution must be a multiple of 8 for this pipeline, got 20"):
        adapter.shape(pipeline, 20)
    for frames in (0, 4, 6):
        with pytest.raises(ValueError, match=f"num_frames must be 1 more than a multiple of 4 .*, got {frames}"):
            adapter.shape(pipeline, 16, frames)


def test_frames_of_images_are_refused(sana_folder):
    images = open_pipeline(sana_folder)
    adapter = denoisers.of(images)
    assert adapter.frames(images) is None and adapter.shape(images) == adapter.latent_shape(images)
    with pytest.raises(ValueError, match="num_frames is for pipelines that make videos; a SanaPipeline makes images"):
        adapter.shape(images, None, 5)


@pytest.mark.parametrize("change", [{"boundary_ratio": 0.875}, {"transformer_2": True}])
def test_a_pipeline_of_two_transformers_is_refused(change, pipeline):
    two = copy.copy(pipeline)
    if "transformer_2" in change:
        two.register_modules(transformer_2=pipelines.wan())
    else:
        two._internal_dict = type(pipeline.config)(dict(pipeline.config) | change)
    with pytest.raises(ValueError, match="this WanPipeline has two transformers, one for each part of the noise"):
        denoisers.of(two)


def test_features_are_means_over_tokens_alone(pipeline):
    adapter = denoisers.of(pipeline)
    short = adapter.encode(pipeline, ["ab"], "cpu")
    tokens = int(short["prompt_embeds"].any(-1).sum())
    assert 2 <= tokens < 10 and short["prompt_embeds"].shape[1] == 512
    torch.testing.assert_close(adapter.features(short), short["prompt_embeds"][:, :tokens].mean(1))


def test_the_time_input_is_a_thousand_times_the_noise_level(pipeline):
    teacher = Teacher.of(pipeline)
    assert teacher.prediction == "flow_prediction" and len(teacher.schedule) == 1000
    condition = denoisers.of(pipeline).encode(pipeline, ["a cat"], "cpu")
    with torch.no_grad():
        ours = heard(pipeline.transformer, lambda: teacher.denoiser(
            pipeline.transformer, noise(1, *LATENT), torch.tensor([499]), condition))  # fmt: skip
    assert ours[0]["timestep"].tolist() == [750.0]  # a half, shifted by 3: 1.5 / 2


def test_regions_random_conditioning_and_on_policy_rows_take_videos(pipeline):
    torch.manual_seed(1)
    layers = [("blocks.1", "blocks.0"), ("patch_embedding", "patch_embedding")]
    settings = {"objective": ("output", Feature(layers=layers)), "on_policy": OnPolicy(0.5, 2)}
    made = distiller(pipeline, pipelines.wan(num_layers=1, num_attention_heads=1), **settings)
    for _ in range(4):
        seen = []
        ours = heard(made.student, lambda seen=seen: seen.extend(heard(pipeline.transformer, made.step)))
        assert seen[0]["hidden_states"].shape == (4, *LATENT)
        for name in ("timestep", "hidden_states", "encoder_hidden_states"):
            assert torch.equal(seen[0][name], ours[0][name]), name
    made.check()
    assert set(made.losses(tiny.first_batch(made))) == {"output", "feature"}


def test_a_step_does_not_wait_for_the_device(pipeline, monkeypatch):
    made = distiller(pipeline, pipelines.wan(num_layers=1), objective=("output",))
    made.step()
    with nobody_looks(monkeypatch):
        made.step()
    made.check()


def test_another_model_generates_in_the_pipelines_place_and_leaves_no_trace(pipeline):
    adapter, own = denoisers.of(pipeline), pipeline.transformer
    inputs, start = grids.encoded(pipeline, adapter, TEXTS[:2]), grids.starting_noise(adapter, pipeline, 2, 3, 16, 5)
    other = pipelines.wan(num_layers=1)
    first = grids.generated(pipeline, adapter, own, *inputs, start, steps=2, guidance=2.0)
    assert not torch.equal(grids.generated(pipeline, adapter, other, *inputs, start, steps=2, guidance=2.0), first)
    assert torch.equal(grids.generated(pipeline, adapter, own, *inputs, start, steps=2, guidance=2.0), first)
    assert pipeline.transformer is own


# under autocast, torch's RMSNorm does not fuse, as it says once
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_a_teacher_in_half_precision_keeps_what_it_keeps_when_it_is_opened_so(pipeline, wan_folder):
    own = copy.copy(pipeline)
    own.register_modules(transformer=copy.deepcopy(pipeline.transformer))
    AcceleratorState._reset_state(reset_partial_state=False)
    try:
        made = distiller(own, pipelines.wan(num_layers=1), accelerator=Accelerator(cpu=True, mixed_precision="bf16"))
        made.step()
        made.check()
    finally:
        AcceleratorState._reset_state(reset_partial_state=False)
    opened = open_model(wan_folder, dtype=torch.bfloat16)
    wanted = {name: value.dtype for name, value in opened.named_parameters()}
    assert set(wanted.values()) == {torch.bfloat16, torch.float32}
    assert {name: value.dtype for name, value in made.teacher.model.named_parameters()} == wanted
    assert {value.dtype for value in made.teacher.model.buffers()} == {torch.float32}
    assert {value.dtype for value in made.student.parameters()} == {torch.float32}


def fill(folder, pipeline, **kwargs):
    (folder / "prompts.txt").write_text("\n".join(TEXTS))
    return cache.fill(folder / "cache", pipeline, prompts=folder / "prompts.txt", bar=progress.silent, steps=1,
                      resolution=16, **kwargs)  # fmt: skip


def test_a_cache_holds_videos_of_one_length_and_scaling(pipeline, tmp_path):
    record = fill(tmp_path, pipeline, num_images=2, frames=5)
    assert record["latents"]["shapes"] == {"samples": [4, 2, 4, 4]} and record["settings"]["num_frames"] == 5
    opens = {"resolution": 16, "pipeline": pipeline}
    assert cache.opened(tmp_path / "cache", frames=5, **opens)[1].shape == (4, 2, 4, 4)
    with pytest.raises(ValueError, match="has latents of size 4x2x4x4, the teacher's have 4x3x4x4"):
        cache.opened(tmp_path / "cache", frames=9, **opens)
    with pytest.raises(ValueError, match="was made with size = '4x2x4x4', this is '4x3x4x4'"):
        fill(tmp_path, pipeline, num_images=2, frames=9)
    other = copy.copy(pipeline)
    other.register_modules(vae=pipelines.video_vae(latents_std=[2.8, 1.4, 2.3, 0.9]))
    with pytest.raises(ValueError, match="has latents of latents_std 2.8 1.4 2.3 0.8, the teacher's have 2.8 1.4"):
        cache.opened(tmp_path / "cache", frames=5, resolution=16, pipeline=other)


def test_images_are_videos_of_one_frame(pipeline, tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (20, 16), "red").save(tmp_path / "data" / f"{name}.png")
        (tmp_path / "data" / f"{name}.txt").write_text(f"a red {name}")
    with pytest.raises(ValueError, match="holds images, to a WanPipeline videos of one frame: num_frames must be 1"):
        fill(tmp_path, pipeline, data=tmp_path / "data", frames=5)
    assert not (tmp_path / "cache").exists()
    fill(tmp_path, pipeline, data=tmp_path / "data", frames=1, dtype="fp32")
    _, images = cache.opened(tmp_path / "cache", resolution=16, frames=1, pipeline=pipeline)
    latents, _ = images.gather(torch.arange(2))
    assert latents.shape == (2, 4, 1, 4, 4)
    again = denoisers.of(pipeline).decode(pipeline, latents)
    assert again.shape == (2, 3, 1, 16, 16)
