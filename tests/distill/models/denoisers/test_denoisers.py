"""Adapters: conditions and null conditions are those of the pipelines, and they never synchronise with the device."""

from __future__ import annotations

import contextlib
import sys

import pytest
import torch
from accelerate import Accelerator

import aria
from aria.distill.data.memory import EncodingsInMemory
from aria.distill.models import denoisers
from aria.distill.models.pipelines import open_pipeline
from tests.distill import pipelines, tiny

TEXTS = ["a red cat", "a dog", "an old house by the sea", "b"]


@pytest.fixture(scope="module")
def sd(sd_folder):
    return open_pipeline(sd_folder)


@pytest.fixture(scope="module")
def sdxl(sdxl_folder):
    return open_pipeline(sdxl_folder)


def test_sd_conditions_are_the_text_encoders_last_states(sd):
    adapter = denoisers.of(sd)

    def encoded(texts):
        length = sd.tokenizer.model_max_length
        tokens = sd.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        with torch.no_grad():
            return sd.text_encoder(tokens.input_ids)[0]

    torch.testing.assert_close(adapter.encode(sd, TEXTS, "cpu")["prompt_embeds"], encoded(TEXTS))
    null = adapter.null(sd, "cpu")
    assert null.keys() == {"prompt_embeds"}
    torch.testing.assert_close(null["prompt_embeds"], encoded([""]))


def test_sdxl_null_condition_is_zeros_in_embeds_and_pooled(sdxl):
    adapter = denoisers.of(sdxl)
    null, encoded = adapter.null(sdxl, "cpu"), adapter.encode(sdxl, TEXTS, "cpu")
    assert null.keys() == encoded.keys() == {"prompt_embeds", "pooled", "time_ids"}
    assert null["prompt_embeds"].shape == (1, 12, 16) and not null["prompt_embeds"].any()
    assert null["pooled"].shape == (1, 8) and not null["pooled"].any()
    assert null["time_ids"].tolist() == [[16, 16, 0, 0, 16, 16]]
    assert torch.equal(encoded["time_ids"], null["time_ids"].expand(4, 6))
    assert bool(encoded["prompt_embeds"].flatten(1).any(1).all()) and bool(encoded["pooled"].any(1).all())


def test_sdxl_without_that_setting_encodes_the_empty_text(sdxl):
    sdxl.register_to_config(force_zeros_for_empty_prompt=False)
    try:
        null, empty = denoisers.of(sdxl).null(sdxl, "cpu"), denoisers.of(sdxl).encode(sdxl, [""], "cpu")
    finally:
        sdxl.register_to_config(force_zeros_for_empty_prompt=True)
    for name, value in empty.items():
        torch.testing.assert_close(null[name], value)


def test_the_size_given_to_the_model_is_that_of_the_images(sd, sdxl):
    adapter = denoisers.of(sdxl)
    assert adapter.latent_shape(sdxl) == adapter.latent_shape(sdxl, 16) == (4, 8, 8)
    with pytest.raises(ValueError, match="resolution must be 16 for this pipeline, as in its conditions, got 32"):
        adapter.latent_shape(sdxl, 32)
    assert denoisers.of(sd).latent_shape(sd, 32) == (4, 16, 16)


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_a_model_gets_the_same_inputs_as_in_its_pipeline(kind, request):
    """One step of the pipeline from the same noise: its UNet gets the inputs that the adapter passes."""
    pipeline = request.getfixturevalue(kind)
    adapter, heard = denoisers.of(pipeline), []
    forward = pipeline.unet.forward
    pipeline.unet.forward = lambda *args, **kwargs: heard.append((args, kwargs)) or forward(*args, **kwargs)
    noise = torch.randn(1, 4, pipelines.SIDE, pipelines.SIDE, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            pipeline("a red cat", latents=noise, num_inference_steps=1, guidance_scale=3.0, output_type="latent")
            adapter_condition = adapter.encode(pipeline, ["a red cat"], "cpu")
            null = adapter.null(pipeline, "cpu")
            both = {name: torch.cat([null[name], value]) for name, value in adapter_condition.items()}
            (noisy, timestep), expected_kwargs = heard[0]
            output = adapter(pipeline.unet, noisy, timestep.expand(2), both)
            expected = forward(noisy, timestep, **expected_kwargs)[0]
    finally:
        del pipeline.unet.forward
    torch.testing.assert_close(output, expected)
    (given, _, *_), given_kwargs = heard[1]
    assert torch.equal(given, noisy) and (kind == "sd") == ("added_cond_kwargs" not in given_kwargs)


def test_an_unknown_family_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no adapter for a object; there are adapters for: StableDiffusionPipeline"):
        denoisers.of(object())


def distiller(pipeline, **settings):
    adapter, count = denoisers.of(pipeline), len(TEXTS)
    pool = EncodingsInMemory(adapter.encode(pipeline, TEXTS, "cpu"), adapter.null(pipeline, "cpu"))
    partition = aria.partitioners.Labels("label").fit(aria.Pool(columns={"label": [0, 1] * (count // 2)}))
    shown = tiny.shown(torch.randn(5, 4, pipelines.SIDE, pipelines.SIDE), count)
    make = pipelines.unet if "StableDiffusionPipeline" in adapter.pipelines else pipelines.sdxl_unet
    kwargs = {"batch_size": 4, "accelerator": Accelerator(cpu=True), "null_probability": 0.3}
    kwargs |= {"objective": ("output", "feature(layers=[('down_blocks.1','down_blocks.1')])", "task")}
    sampler = aria.Sampler(partition, timesteps=1000, correction="importance")
    return tiny.distiller(pipeline, make(), sampler, shown, pool, **(kwargs | settings))


class Looked(AssertionError):
    """A tensor's value was read on the host."""


ON_A_CPU_ONLY = {
    "aria.samplers.signals": {"all_valid", "refuse", "bucket"},
    "aria.samplers.boundary": {"region", "visit", "allocation"},
    "aria.partitioners.tables": {"locate"},
}
"""Functions that read values, each after a check that the tensor is on a CPU."""


@contextlib.contextmanager
def nobody_looks(monkeypatch):
    """Every read of a tensor's values by the host raises, except in the functions named above."""

    def guarded(name, original):
        def look(self, *args, **more):
            caller = sys._getframe(1)
            if caller.f_code.co_name not in ON_A_CPU_ONLY.get(caller.f_globals["__name__"], ()):
                raise Looked(f"{caller.f_globals['__name__']}.{caller.f_code.co_name} calls {name}")
            return original(self, *args, **more)

        return look

    with monkeypatch.context() as patch:
        for name in ("item", "cpu", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__", "nonzero"):
            patch.setattr(torch.Tensor, name, guarded(name, getattr(torch.Tensor, name)))
        yield


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_step_does_not_wait_for_the_device(kind, accumulation, request, monkeypatch):
    made = distiller(request.getfixturevalue(kind), accumulation=accumulation)
    made.step()
    with nobody_looks(monkeypatch):
        made.step()
        with pytest.raises(Looked):
            made.check()
    assert made.step_count == 2
    made.check()


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_half_precision_trains_and_keeps_the_student_in_float32(kind, request):
    import copy

    from accelerate.state import AcceleratorState

    pipeline = copy.copy(request.getfixturevalue(kind))
    pipeline.register_modules(unet=copy.deepcopy(pipeline.unet))
    AcceleratorState._reset_state(reset_partial_state=False)
    try:
        made = distiller(pipeline, accelerator=Accelerator(cpu=True, mixed_precision="bf16"))
        made.step()
        made.check()
    finally:
        AcceleratorState._reset_state(reset_partial_state=False)
    assert next(made.teacher.parameters()).dtype == torch.bfloat16
    assert {value.dtype for value in made.student.parameters()} == {torch.float32}
