"""Adapters of the transformer families: model inputs and images are those of the pipelines themselves."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

import aria
from aria.distill.data.memory import EncodingsInMemory
from aria.distill.evaluation import grids
from aria.distill.models import denoisers
from aria.distill.models.denoisers.dit import class_of
from aria.distill.models.denoisers.variance import Variance
from aria.distill.models.pipelines import open_pipeline
from aria.distill.objectives import Inputs, ModelOutput
from aria.distill.settings.config import AdamW
from aria.distill.teachers.teacher import Teacher
from tests.distill import pipelines, tiny
from tests.distill.models.denoisers.test_denoisers import nobody_looks

KINDS = ("dit", "pixart", "pixart_sigma", "sana", "sd3")
FLOWS = ("sana", "sd3")
TEXTS = ["a red cat", "a Dog", "an old house by the sea", "b"]


@pytest.fixture(scope="module")
def opened(dit_folder, pixart_folder, pixart_sigma_folder, sana_folder, sd3_folder):
    folders = (dit_folder, pixart_folder, pixart_sigma_folder, sana_folder, sd3_folder)
    return {kind: open_pipeline(folder) for kind, folder in zip(KINDS, folders, strict=True)}


def texts(kind):
    return ["7", "goldfish", "Tinca tinca", "999"] if kind == "dit" else TEXTS


def noise(count=1):
    return torch.randn(count, 4, pipelines.SIDE, pipelines.SIDE, generator=torch.Generator().manual_seed(0))


def recorded(pipeline, text, start, *, guidance, steps=2, monkeypatch):
    """Inputs and outputs of the pipeline's model, call by call, and the pixels, all through the pipeline alone."""
    heard, forward = [], pipeline.transformer.forward

    def listen(*args, **kwargs):
        output = forward(*args, **kwargs)
        heard.append((args, kwargs, output[0]))
        return output

    kwargs = {"num_inference_steps": steps, "guidance_scale": guidance, "output_type": "np"}
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.transformer, "forward", listen)
        if "DiTPipeline" == type(pipeline).__name__:
            patch.setattr("diffusers.pipelines.dit.pipeline_dit.randn_tensor", lambda shape, **_: start)
            images = pipeline([class_of(pipeline, text)], **kwargs).images
        else:
            binned = type(pipeline).__name__.startswith(("PixArt", "Sana"))
            more = {"use_resolution_binning": False} if binned else {}
            images = pipeline(text, latents=start, **kwargs, **more).images
    return heard, torch.from_numpy(images).permute(0, 3, 1, 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_whole_generation_is_the_pipelines_own(kind, guidance, opened, monkeypatch):
    pipeline, text = opened[kind], texts(kind)[1]
    adapter = denoisers.of(pipeline)
    _, expected = recorded(pipeline, text, noise(), guidance=guidance, monkeypatch=monkeypatch)
    conditions = adapter.encode(pipeline, [text], "cpu"), adapter.null(pipeline, "cpu")
    latents = adapter.generate(pipeline, *conditions, noise(), steps=2, guidance=guidance)
    assert latents.shape == noise().shape
    torch.testing.assert_close(adapter.decode(pipeline, latents), expected, rtol=1e-4, atol=1e-5)
    other = adapter.encode(pipeline, [texts(kind)[0]], "cpu")
    far = adapter.generate(pipeline, other, conditions[1], noise(), steps=2, guidance=guidance)
    assert float((far - latents).abs().max()) > 1e-3  # the condition matters


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_gets_the_same_inputs_as_in_its_pipeline(kind, opened, monkeypatch):
    """At every step: the same model, latents, timestep and both conditions give the same output."""
    pipeline, text = opened[kind], texts(kind)[1]
    adapter = denoisers.of(pipeline)
    heard, _ = recorded(pipeline, text, noise(), guidance=3.0, monkeypatch=monkeypatch)
    own, null = adapter.encode(pipeline, [text], "cpu"), adapter.null(pipeline, "cpu")
    order = (own, null) if kind == "dit" else (null, own)
    both = {name: torch.cat([part[name] for part in order]) for name in own}
    assert len(heard) == 2
    for args, kwargs, expected in heard:
        noisy = args[0] if args else kwargs["hidden_states"]
        with torch.no_grad():
            output = adapter(pipeline.transformer, noisy, kwargs["timestep"], both)
        assert output.shape == noisy.shape and expected.shape[1] == (4 if kind in FLOWS else 8)
        torch.testing.assert_close(output, expected[:, :4])


def test_the_time_input_of_sd3_is_a_thousand_times_the_noise_level(opened, monkeypatch):
    """The engine's timesteps are levels of the pipeline's scheduler, with the pipeline's time input to the model."""
    pipeline = opened["sd3"]
    heard, _ = recorded(pipeline, "a cat", noise(), guidance=1.0, steps=3, monkeypatch=monkeypatch)
    teacher = Teacher.of(pipeline)
    assert teacher.prediction == "flow_prediction" and len(teacher.schedule) == 1000
    encoded = denoisers.of(pipeline).encode(pipeline, ["a cat"], "cpu")
    levels, forward = [], pipeline.transformer.forward
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(pipeline.transformer, "forward", lambda **x: levels.append(x["timestep"]) or forward(**x))
        last = teacher.denoiser(pipeline.transformer, noise(), torch.tensor([999]), encoded)
        teacher.denoiser(pipeline.transformer, noise(), torch.tensor([499]), encoded)
    assert heard[0][1]["timestep"].tolist() == levels[0].tolist() == [1000.0]
    assert levels[1].tolist() == [750.0]  # a half, shifted by 3: 1.5 / 2
    torch.testing.assert_close(last, heard[0][2])


def test_the_time_input_of_sana_is_a_thousand_times_the_noise_level(opened, monkeypatch):
    """Its scheduler shows the model whole numbers, cut off, and steps between levels that are none."""
    pipeline = opened["sana"]
    heard, _ = recorded(pipeline, "a cat", noise(), guidance=1.0, steps=7, monkeypatch=monkeypatch)
    levels = (1000 * pipeline.scheduler.sigmas).tolist()
    assert [kwargs["timestep"].item() for _, kwargs, _ in heard] == [int(level) for level in levels[:-1]]
    teacher, shown = Teacher.of(pipeline), []
    assert teacher.prediction == "flow_prediction" and len(teacher.schedule) == 1000
    encoded, forward = denoisers.of(pipeline).encode(pipeline, ["a cat"], "cpu"), pipeline.transformer.forward
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(pipeline.transformer, "forward", lambda *a, **k: shown.append(k["timestep"]) or forward(*a, **k))
        teacher.denoiser(pipeline.transformer, noise(), torch.tensor([499]), encoded)
    assert shown[0].tolist() == [750.0]  # a half, shifted by 3: 1.5 / 2


def test_pixart_at_1024_pixels_gets_its_size_as_an_input(tmp_path, monkeypatch):
    folder = pipelines.save_pixart(
        tmp_path / "sized", sample_size=128, patch_size=16, num_attention_heads=3, cross_attention_dim=12
    )
    pipeline = open_pipeline(folder)
    adapter = denoisers.of(pipeline)
    start = torch.randn(1, 4, 128, 128, generator=torch.Generator().manual_seed(0))
    heard, _ = recorded(pipeline, "a cat", start, guidance=3.0, steps=2, monkeypatch=monkeypatch)
    own, null = adapter.encode(pipeline, ["a cat"], "cpu"), adapter.null(pipeline, "cpu")
    assert own["resolution"].tolist() == null["resolution"].tolist() == [[256, 256]]
    assert own["aspect_ratio"].tolist() == [[1.0]]
    with pytest.raises(ValueError, match="resolution must be 256 for this pipeline, as in its conditions, got 128"):
        adapter.latent_shape(pipeline, 128)
    both = {name: torch.cat([null[name], own[name]]) for name in own}
    (noisy,), kwargs, expected = heard[1]
    with torch.no_grad():
        output = adapter(pipeline.transformer, noisy, kwargs["timestep"], both)
        torch.testing.assert_close(output, expected[:, :4])
        both["resolution"] = both["resolution"] * 2
        assert not torch.allclose(adapter(pipeline.transformer, noisy, kwargs["timestep"], both), output)


def test_null_conditions(opened):
    null = denoisers.of(opened["dit"]).null(opened["dit"], "cpu")
    assert null["class_labels"].tolist() == [1000]
    null = denoisers.of(opened["pixart"]).null(opened["pixart"], "cpu")
    assert null["prompt_embeds"].shape == (1, 120, 12) and null["mask"].sum().item() == 1
    sigma = denoisers.of(opened["pixart_sigma"]).null(opened["pixart_sigma"], "cpu")
    assert sigma["prompt_embeds"].shape == (1, 300, 12)
    pipeline = opened["sd3"]
    null = denoisers.of(pipeline).null(pipeline, "cpu")
    _, embeds, _, pooled = pipeline.encode_prompt(["x"], None, None, device="cpu", negative_prompt=[""])
    assert embeds.shape == (1, 12 + 256, 20)
    sana = denoisers.of(opened["sana"]).null(opened["sana"], "cpu")
    assert sana["prompt_embeds"].shape == (1, 300, 12) and sana["mask"].sum().item() == 1
    torch.testing.assert_close(null["prompt_embeds"], embeds, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(null["pooled"], pooled)


def test_features_of_similar_conditions_are_similar(opened):
    pipeline = opened["pixart"]
    encoded = denoisers.of(pipeline).encode(pipeline, TEXTS, "cpu")
    longer = {"prompt_embeds": encoded["prompt_embeds"].clone(), "mask": encoded["mask"]}
    longer["prompt_embeds"][encoded["mask"] == 0] = 7.0  # values beyond the last token do not count
    features = denoisers.of(pipeline).features(encoded)
    assert features.shape == (4, 12) and torch.equal(features, denoisers.of(pipeline).features(longer))
    pipeline = opened["dit"]
    encoded = denoisers.of(pipeline).encode(pipeline, ["0", "tench", "Tinca tinca", "1"], "cpu")
    features = denoisers.of(pipeline).features(encoded)
    assert torch.equal(features[0], features[1]) and torch.equal(features[0], features[2])
    assert features.shape == (4, 8) and not torch.equal(features[0], features[3])


@pytest.mark.parametrize("absent", [(3,), (1,), (2,), (1, 2), (1, 3)])
def test_sd3_without_some_encoders(absent, opened, tmp_path):
    pipeline = open_pipeline(pipelines.save_sd3(tmp_path / "some", absent))
    adapter = denoisers.of(pipeline)
    encoded, null = adapter.encode(pipeline, TEXTS, "cpu"), adapter.null(pipeline, "cpu")
    assert encoded["prompt_embeds"].shape == (4, (77 if absent == (1, 2) else 12) + 256, 20)
    assert encoded["pooled"].shape == (4, 16) and null["pooled"].shape == (1, 16)
    places = {1: (encoded["pooled"], slice(0, 8)), 2: (encoded["pooled"], slice(8, 16)),
              3: (encoded["prompt_embeds"][:, -256:].flatten(1), slice(None))}  # fmt: skip
    for number, (where, part) in places.items():
        assert bool(where[:, part].any()) == (number not in absent)
    if absent == (3,):  # the pipeline can encode without T5, and does the same
        expected = pipeline.encode_prompt(TEXTS, None, None, device="cpu", do_classifier_free_guidance=False)
        torch.testing.assert_close(encoded["prompt_embeds"], expected[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(encoded["pooled"], expected[2])
    latents = adapter.generate(pipeline, encoded, null, noise(4), steps=2, guidance=2.0)
    assert bool(latents.isfinite().all())
    features = adapter.features(encoded)
    assert not torch.equal(features[0], features[1])


def test_sd3_without_any_encoder_is_refused(tmp_path):
    pipeline = open_pipeline(pipelines.save_sd3(tmp_path / "none", (1, 2, 3)))
    with pytest.raises(ValueError, match="the pipeline has no text encoder left"):
        denoisers.of(pipeline).encode(pipeline, ["a cat"], "cpu")


def test_classes_by_number_and_name(opened):
    pipeline = opened["dit"]
    assert [class_of(pipeline, text) for text in ("0", "Tinca tinca", "cock", "999")] == [0, 0, 7, 999]
    for text, sentence in {
        "goldfisch": "there is no class 'goldfisch'; did you mean 'goldfish'",
        "zzz": "there is no class 'zzz'; the teacher has 0 to 999 and the names in its id2label",
        "1000": "there is no class 1000; the teacher has 0 to 999",
        "-1": "there is no class '-1'",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            denoisers.of(pipeline).encode(pipeline, ["7", text], "cpu")
    assert denoisers.of(pipeline).columns(pipeline, ["0", "7", "3"]) == {"label": ["Tinca tinca", "cock", "3"]}


def test_a_model_of_other_classes_than_its_pipeline_guides_with_is_refused(opened):
    pipeline = copy.copy(opened["dit"])
    pipeline.register_modules(transformer=pipelines.dit(num_embeds_ada_norm=10))
    with pytest.raises(ValueError, match="guides with class 1000 whatever the model, and .* of this one is 10"):
        denoisers.of(pipeline).null(pipeline, "cpu")


def test_sizes_of_latents(opened):
    for kind in KINDS:
        pipeline = opened[kind]
        adapter = denoisers.of(pipeline)
        assert adapter.latent_shape(pipeline) == adapter.latent_shape(pipeline, 16) == (4, 8, 8)
    with pytest.raises(ValueError, match="resolution must be 16 for this pipeline, the model's own, got 32"):
        denoisers.of(opened["dit"]).latent_shape(opened["dit"], 32)
    with pytest.raises(ValueError, match="resolution must be a multiple of 4 for this pipeline, got 18"):
        denoisers.of(opened["sd3"]).latent_shape(opened["sd3"], 18)
    assert denoisers.of(opened["sd3"]).latent_shape(opened["sd3"], 12) == (4, 6, 6)


def test_the_variance_half_is_matched_and_nothing_else():
    patches = torch.randn(2, 16, 2 * 2 * 8)
    changed = patches.clone()
    changed.view(2, 16, 4, 8)[..., :4] += 1.0  # the noise half differs, which is the output term's business
    shown = Inputs(*[torch.zeros(2, 4, 8, 8)] * 3, *[torch.zeros(2)] * 2, None, "epsilon")
    assert Variance()(shown, ModelOutput(None, (patches,)), ModelOutput(None, (changed,))).tolist() == [0.0, 0.0]
    changed.view(2, 16, 4, 8)[0, ..., 4:] += 0.5
    loss = Variance()(shown, ModelOutput(None, (patches,)), ModelOutput(None, (changed,)))
    assert loss.tolist() == pytest.approx([0.25, 0.0])


def distiller(teacher, student, kind="dit", of=None, **settings):
    pipeline = of or teacher
    adapter = denoisers.of(pipeline)
    pool = EncodingsInMemory(adapter.encode(pipeline, texts(kind), "cpu"), adapter.null(pipeline, "cpu"))
    partition = aria.partitioners.Labels("label").fit(aria.Pool(columns={"label": [0, 1, 0, 1]}))
    shown = tiny.shown(noise(5), 4)
    kwargs = {"batch_size": 4, "accelerator": Accelerator(cpu=True), "ema_decay": 0.0, **settings}
    return tiny.distiller(teacher, student, aria.Sampler(partition, timesteps=1000), shown, pool, **kwargs)


@pytest.mark.parametrize("kind", ["dit", "pixart"])
def test_a_learned_variance_is_distilled_whatever_the_objective(kind, opened):
    torch.manual_seed(1)
    made = distiller(opened[kind], getattr(pipelines, kind)(), kind, optimiser=AdamW(learning_rate=1e-2))
    assert list(made.objective) == ["output", "variance"] and made.plan.signal == "output"
    before = made.losses(tiny.first_batch(made))["variance"].mean().item()
    for _ in range(15):
        made.step()
    after = made.losses(tiny.first_batch(made))["variance"].mean().item()
    assert after < 0.7 * before


def test_a_student_in_training_gets_the_classes_that_were_drawn(opened):
    """diffusers' label embeddings drop one in ten in training, at random: a resumed run could not repeat it."""
    torch.manual_seed(0)
    student = pipelines.dit()
    made = distiller(opened["dit"], student)
    assert student.training
    batch = tiny.first_batch(made)
    with torch.no_grad():
        outputs = [made.learner(batch.noisy, batch.timestep, batch.condition)[0] for _ in range(12)]
    assert all(torch.equal(output, outputs[0]) for output in outputs)
    state = torch.get_rng_state()
    made.step()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_student_of_another_width_takes_captions_and_one_with_other_conditions_does_not(opened):
    narrow = pipelines.pixart(num_attention_heads=1, cross_attention_dim=4)
    distiller(opened["pixart"], narrow, "pixart").step()
    with pytest.raises(ValueError, match="the student's caption_channels is 13, the teacher's 12"):
        distiller(opened["pixart"], pipelines.pixart(caption_channels=13), "pixart")
    with pytest.raises(ValueError, match="epsilon cannot be read as flow_prediction: a pipeline that matches flows"):
        distiller(opened["sd3"], pipelines.sd3(), "sd3", student_prediction="epsilon")


@pytest.mark.parametrize("kind", KINDS)
def test_another_model_generates_in_the_pipelines_place_and_leaves_no_trace(kind, opened):
    pipeline = opened[kind]
    adapter, own = denoisers.of(pipeline), opened[kind].transformer
    inputs = grids.encoded(pipeline, adapter, texts(kind)[:2])
    start = grids.starting_noise(adapter, pipeline, 2, seed=3)
    other = getattr(pipelines, kind.split("_")[0])()
    first = grids.generated(pipeline, adapter, own, *inputs, start, steps=2, guidance=2.0)
    assert not torch.equal(grids.generated(pipeline, adapter, other, *inputs, start, steps=2, guidance=2.0), first)
    assert torch.equal(grids.generated(pipeline, adapter, own, *inputs, start, steps=2, guidance=2.0), first)
    assert pipeline.transformer is own


def test_where_a_teacher_is_evaluated_twice_its_variance_is_left_out(opened):
    """It has no meaning there: half of the steps is another reverse process."""
    pipeline = opened["dit"]
    teacher = replace(Teacher.of(pipeline), plain=False)
    assert teacher.terms and list(distiller(teacher, pipelines.dit(), of=pipeline).objective) == ["output"]


@pytest.mark.parametrize("kind", ["dit", "pixart", "sana", "sd3"])
def test_a_step_does_not_wait_for_the_device(kind, opened, monkeypatch):
    made = distiller(opened[kind], getattr(pipelines, kind)(), kind, objective=("output", "task"))
    made.step()
    with nobody_looks(monkeypatch):
        made.step()
    made.check()


@pytest.mark.parametrize("kind", ["dit", "pixart", "sana", "sd3"])
def test_half_precision_trains_and_keeps_the_student_in_float32(kind, opened):
    pipeline = copy.copy(opened[kind])
    pipeline.register_modules(transformer=copy.deepcopy(pipeline.transformer))
    AcceleratorState._reset_state(reset_partial_state=False)
    try:
        half = Accelerator(cpu=True, mixed_precision="bf16")
        made = distiller(pipeline, getattr(pipelines, kind)(), kind, accelerator=half)
        made.step()
        made.check()
    finally:
        AcceleratorState._reset_state(reset_partial_state=False)
    assert next(made.teacher.parameters()).dtype == torch.bfloat16
    assert {value.dtype for value in made.student.parameters()} == {torch.float32}
