"""Flux in training: packed for the model alone, with a guidance scale in every row, at the levels of its scheduler."""

from __future__ import annotations

import copy

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

import aria
from aria.distill.data.memory import EncodingsInMemory
from aria.distill.engine.on_policy import OnPolicy
from aria.distill.evaluation import grids
from aria.distill.models import denoisers
from aria.distill.models.denoisers.flux import places
from aria.distill.models.denoisers.guidance import GUIDANCE, is_open, take_guidance
from aria.distill.models.denoisers.packing import pack
from aria.distill.models.pipelines import open_pipeline
from aria.distill.objectives import Feature
from aria.distill.teachers.guidance import guided
from aria.distill.teachers.teacher import Teacher
from tests.distill import pipelines, tiny
from tests.distill.models.denoisers.test_denoisers import nobody_looks

TEXTS = ["a red cat", "a Dog", "an old house by the sea", "b"]
KINDS = ("dev", "schnell")


@pytest.fixture(scope="module")
def opened(flux_folder, flux_schnell_folder):
    made = {kind: open_pipeline(folder) for kind, folder in zip(KINDS, (flux_folder, flux_schnell_folder), strict=True)}
    for pipeline in made.values():
        pipeline.default_sample_size = pipelines.SIDE
    return made


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def distiller(pipeline, student, *, scales=None, of=None, **settings):
    adapter, teacher = denoisers.of(pipeline), Teacher.of(pipeline)
    null = adapter.null(pipeline, "cpu")
    if scales is not None:
        teacher = guided(teacher, null)
    pool = EncodingsInMemory(adapter.encode(pipeline, TEXTS, "cpu"), null)
    partition = aria.partitioners.Labels("label").fit(aria.Pool(columns={"label": [0, 1, 0, 1]}))
    kwargs = {"batch_size": 4, "accelerator": Accelerator(cpu=True), "ema_decay": 0.0, "guidance": scales, **settings}
    shown = tiny.shown(noise(5, 4, 8, 8), 4)
    return tiny.distiller(teacher, student, aria.Sampler(partition, timesteps=1000), shown, pool, **kwargs)


def heard(model, call):
    """What ``model`` is called with while ``call`` runs, and what it returns, call by call."""
    found = []
    hook = model.register_forward_hook(lambda _, args, kwargs, output: found.append((kwargs, output[0])),
                                       with_kwargs=True)  # fmt: skip
    try:
        call()
    finally:
        hook.remove()
    return found


def test_packing_is_the_pipelines_own_and_is_undone(opened):
    pipeline, latents = opened["dev"], noise(2, 4, 6, 10)
    packed = pack(latents)
    assert torch.equal(packed, pipeline._pack_latents(latents, 2, 4, 6, 10)) and packed.shape == (2, 15, 16)
    assert torch.equal(denoisers.Flux().unpack(packed, latents), latents)
    expected = pipeline._prepare_latent_image_ids(1, 3, 5, "cpu", torch.float32)
    assert torch.equal(places(3, 5, torch.device("cpu")), expected)


def test_sizes_of_latents(opened):
    pipeline, adapter = opened["dev"], denoisers.Flux()
    assert adapter.latent_shape(pipeline) == adapter.latent_shape(pipeline, 16) == (4, 8, 8)
    assert adapter.latent_shape(pipeline, 36) == (4, 18, 18)
    with pytest.raises(ValueError, match="resolution must be a multiple of 4 for this pipeline, got 18"):
        adapter.latent_shape(pipeline, 18)


def test_without_one_of_its_encoders_prompts_are_refused(opened):
    pipeline = copy.copy(opened["dev"])
    pipeline.text_encoder_2 = None
    with pytest.raises(ValueError, match="the pipeline needs both of its text encoders, CLIP and T5, to encode"):
        denoisers.of(pipeline).encode(pipeline, TEXTS, "cpu")


def test_the_time_input_is_the_noise_level(opened):
    """The first of the levels is that of the pipeline's first step; the shift of the others is left to the pipeline."""
    pipeline = opened["dev"]
    adapter, teacher, start = denoisers.of(pipeline), Teacher.of(pipeline), noise(1, 4, 8, 8)
    condition = adapter.encode(pipeline, ["a cat"], "cpu")
    made = adapter.generate, (pipeline, condition, condition, start)
    theirs = heard(pipeline.transformer, lambda: made[0](*made[1], steps=3, guidance=2.5))
    assert teacher.prediction == "flow_prediction" and len(teacher.schedule) == 1000
    condition[GUIDANCE] = torch.tensor([2.5])
    outputs = []
    with torch.no_grad():
        ours = heard(pipeline.transformer, lambda: outputs.extend(
            teacher.denoiser(pipeline.transformer, start, torch.tensor([level]), condition) for level in (999, 499)
        ))  # fmt: skip
    assert [kwargs["timestep"].item() for kwargs, _ in ours] == [1.0, 0.5]
    assert theirs[0][0]["timestep"].item() == 1.0 and theirs[1][0]["timestep"].item() > 0.7  # shifted, from 2/3
    torch.testing.assert_close(outputs[0], adapter.unpack(theirs[0][1], start))


@pytest.mark.parametrize("kind", KINDS)
def test_the_null_condition_is_what_the_pipeline_guides_with_if_told_to(kind, opened):
    """One step from the level 1 to the level 0."""
    pipeline, start = opened[kind], noise(2, 4, 4, 8)
    adapter = denoisers.of(pipeline)
    condition, null = adapter.encode(pipeline, TEXTS[:2], "cpu"), adapter.null(pipeline, "cpu")
    inputs = adapter.inputs(pipeline, condition, null, start)
    own = {name: inputs[name] for name in ("latents", "height", "width")}
    wanted = pipeline(
        TEXTS[:2], negative_prompt=["", ""], true_cfg_scale=2.0, guidance_scale=3.0, num_inference_steps=1,
        output_type="latent", **own,
    ).images  # fmt: skip
    scale = {GUIDANCE: torch.full((2,), 3.0)} if kind == "dev" else {}
    null = {name: value.expand(2, *value.shape[1:]) for name, value in null.items()}
    time = torch.full((2,), 1000.0)
    with torch.no_grad():
        under, without = (adapter(pipeline.transformer, start, time, part | scale) for part in (condition, null))
    flow = without + 2 * (under - without)
    torch.testing.assert_close(adapter.unpack(wanted, start), start - flow, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(under, without, atol=1e-3)


def test_a_teacher_with_embedded_guidance_gets_every_rows_own_scale_in_one_call(opened):
    """With replaced conditions and with rows that continue from the student's outputs."""
    torch.manual_seed(1)
    pipeline = opened["dev"]
    made = distiller(pipeline, pipelines.flux(num_layers=1), scales=(1.0, 5.0), on_policy=OnPolicy(0.5, 2))
    teacher, student = pipeline.transformer, made.student
    drawn = []
    for _ in range(4):
        theirs = heard(teacher, lambda: drawn.extend(heard(student, made.step)))
        (kwargs, output), (own, _) = theirs[0], drawn[-1]
        assert len(theirs) == 1 and kwargs["hidden_states"].shape == (4, 16, 16) == output.shape
        assert kwargs["guidance"].shape == (4,) and len(set(kwargs["guidance"].tolist())) == 4
        assert float(kwargs["guidance"].min()) >= 1 and float(kwargs["guidance"].max()) <= 5
        for name in ("guidance", "timestep", "hidden_states", "encoder_hidden_states", "pooled_projections"):
            assert torch.equal(kwargs[name], own[name]), name
    made.check()
    with pytest.raises(ValueError, match="takes the guidance scale as an input, and is given none: set guidance_max"):
        distiller(pipeline, pipelines.flux()).step()


def test_layers_are_compared_with_a_teacher_that_is_guided_by_an_input_and_its_images_are_not(opened):
    layers = [("transformer_blocks.1.norm2",) * 2, ("single_transformer_blocks.0.norm.norm",) * 2]
    settings = {"objective": ("output", Feature(layers=layers)), "scales": (1.0, 5.0)}
    made = distiller(opened["dev"], pipelines.flux(), **settings)
    made.step()
    assert set(made.losses(tiny.first_batch(made))) == {"output", "feature"}
    with pytest.raises(ValueError, match="compared by its output: leave task out of the objective"):
        distiller(opened["dev"], pipelines.flux(), **settings | {"objective": ("output", "task")})
    with pytest.raises(ValueError, match="compared by its output: leave feature out of the objective"):
        distiller(opened["schnell"], pipelines.flux(), **settings)  # guided by the null condition, in two passes


def test_a_scale_matters_to_one_and_is_refused_by_the_other(opened):
    pipeline, start, time = opened["dev"], noise(2, 4, 8, 8), torch.tensor([400.0, 800.0])
    adapter = denoisers.of(pipeline)
    condition = adapter.encode(pipeline, TEXTS[:2], "cpu")
    with torch.no_grad():
        outputs = [adapter(pipeline.transformer, start, time, condition | {GUIDANCE: torch.tensor(scales)})
                   for scales in ([1.0, 3.0], [1.0, 4.0])]  # fmt: skip
    assert torch.equal(outputs[0][0], outputs[1][0]) and not torch.allclose(outputs[0][1], outputs[1][1], atol=1e-4)
    assert is_open(pipeline.transformer) and take_guidance(pipeline.transformer) is pipeline.transformer
    assert not is_open(opened["schnell"].transformer)
    with pytest.raises(ValueError, match="does not take the guidance scale as an input"):
        adapter(opened["schnell"].transformer, start, time, condition | {GUIDANCE: torch.ones(2)})


@pytest.mark.parametrize("kind", KINDS)
def test_another_model_generates_in_the_pipelines_place_and_leaves_no_trace(kind, opened):
    pipeline = opened[kind]
    adapter, own = denoisers.of(pipeline), pipeline.transformer
    inputs = grids.encoded(pipeline, adapter, TEXTS[:2])
    start = grids.starting_noise(adapter, pipeline, 2, seed=3)
    other = pipelines.flux(num_layers=1, guidance_embeds=kind == "dev")
    first = grids.generated(pipeline, adapter, own, *inputs, start, steps=2, guidance=2.0)
    assert not torch.equal(grids.generated(pipeline, adapter, other, *inputs, start, steps=2, guidance=2.0), first)
    assert torch.equal(grids.generated(pipeline, adapter, own, *inputs, start, steps=2, guidance=2.0), first)
    assert pipeline.transformer is own


def test_a_step_does_not_wait_for_the_device(opened, monkeypatch):
    made = distiller(opened["dev"], pipelines.flux(), scales=(1.0, 5.0), objective=("output",))
    made.step()
    with nobody_looks(monkeypatch):
        made.step()
    made.check()


# under autocast, torch's RMSNorm does not fuse, as it says once
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_half_precision_trains_and_keeps_the_student_in_float32(opened):
    pipeline = copy.copy(opened["schnell"])
    pipeline.register_modules(transformer=copy.deepcopy(pipeline.transformer))
    AcceleratorState._reset_state(reset_partial_state=False)
    try:
        half = Accelerator(cpu=True, mixed_precision="bf16")
        made = distiller(pipeline, pipelines.flux(guidance_embeds=False), accelerator=half)
        made.step()
        made.check()
    finally:
        AcceleratorState._reset_state(reset_partial_state=False)
    assert next(made.teacher.parameters()).dtype == torch.bfloat16
    assert {value.dtype for value in made.student.parameters()} == {torch.float32}
