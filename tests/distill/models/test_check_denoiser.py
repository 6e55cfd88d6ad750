"""Every adapter conforms to its pipelines, and a fault of any kind is found and named."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, FlowMatchEulerDiscreteScheduler

from aria.distill.models import denoisers
from aria.distill.models.denoisers import guidance
from aria.distill.models.denoisers.packing import Packed
from aria.distill.models.pipelines import open_pipeline
from aria.testing import check_denoiser
from tests.distill import pipelines

FOLDERS = {
    "StableDiffusionPipeline": "sd_folder",
    "StableDiffusionXLPipeline": "sdxl_folder",
    "StableDiffusion3Pipeline": "sd3_folder",
    "FluxPipeline": "flux_folder",
    "Flux2Pipeline": "flux2_folder",
    "Flux2KleinPipeline": "klein_folder",
    "QwenImagePipeline": "qwen_folder",
    "AuraFlowPipeline": "aura_folder",
    "Lumina2Pipeline": "lumina_folder",
    "ZImagePipeline": "zimage_folder",
    "PixArtAlphaPipeline": "pixart_folder",
    "PixArtSigmaPipeline": "pixart_sigma_folder",
    "SanaPipeline": "sana_folder",
    "DiTPipeline": "dit_folder",
    "WanPipeline": "wan_folder",
    "LTXPipeline": "ltx_folder",
}
"""A tiny pipeline for each that an adapter is for."""
ADAPTERS = [(family, name) for family in denoisers.FAMILIES for name in family.pipelines]


SIZE = {
    "WanPipeline": {"resolution": 16, "frames": 5},
    "LTXPipeline": {"resolution": 64, "frames": 9},
    **{name: {"resolution": 16} for name in ("Flux2Pipeline", "Flux2KleinPipeline", "ZImagePipeline")},
}
"""What is made by pipelines whose own size is that of published models."""


def texts(family):
    return ["7", "goldfish", "999"] if family is denoisers.DiT else ["a red cat", "a Dog", "an old house by the sea"]


def opened(name, request):
    return small(open_pipeline(request.getfixturevalue(FOLDERS[name])))


def small(pipeline):
    """Pipelines with packed latents have a size of their own, whatever their model."""
    if isinstance(denoisers.of(pipeline), Packed):
        pipeline.default_sample_size = pipelines.SIDE
    return pipeline


def fault(adapter, pipeline, family):
    """The sentence of the check that ``adapter`` fails."""
    with pytest.raises(AssertionError) as caught:
        check_denoiser(adapter, pipeline, texts=texts(family), **SIZE.get(type(pipeline).__name__, {}))
    sentence = str(caught.value)
    assert sentence.startswith(f"{type(adapter).__name__}: ") and "\n" not in sentence
    return sentence


@pytest.mark.parametrize(("family", "name"), ADAPTERS, ids=[name for _, name in ADAPTERS])
def test_adapters_of_the_package_conform(family, name, request):
    pipeline = opened(name, request)
    check_denoiser(family(), pipeline, texts=texts(family), **SIZE.get(name, {}))
    check_denoiser(family(), pipeline, texts=texts(family)[::-1], seed=1, **SIZE.get(name, {}))
    assert "step" not in vars(pipeline.scheduler), "the check leaves the pipeline as it was"


def test_guidance_as_an_input(tmp_path):
    """Such a pipeline evaluates its model once per step, with the scale."""
    pipeline = open_pipeline(pipelines.save_sd(tmp_path / "sd", time_cond_proj_dim=16))
    check_denoiser(denoisers.StableDiffusion(), pipeline)

    class Unguided(denoisers.StableDiffusion):
        def __call__(self, model, noisy, timestep, condition):
            return super().__call__(model, noisy, timestep, condition | {"guidance": condition["guidance"] + 1})

    assert "passes the model another timestep_cond than the pipeline" in fault(Unguided(), pipeline, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"timestep_scale": 0.25},
        {"interpolation_scale": 1, "patch_size": 2},
        {"qk_norm": "rms_norm_across_heads"},
        {"scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_kinds_of_sana(changes, tmp_path):
    check_denoiser(denoisers.Sana(), open_pipeline(pipelines.save_sana(tmp_path / "sana", **changes)))


class Wide(Packed):
    def latent_shape(self, pipeline, resolution=None):
        return 4, 4, 8


class Tall(Packed):
    def latent_shape(self, pipeline, resolution=None):
        return 4, 12, 4


@pytest.mark.parametrize("shape", [Packed, Wide, Tall])
@pytest.mark.parametrize("kind", ["flux_folder", "flux_schnell_folder", "qwen_folder"])
def test_kinds_and_shapes_of_packed_latents(kind, shape, request):
    pipeline = small(open_pipeline(request.getfixturevalue(kind)))
    family = type(denoisers.of(pipeline))
    check_denoiser(type(family.__name__, (family,), {"latent_shape": shape.latent_shape})(), pipeline)


def test_a_scheduler_that_scales_its_inputs_and_draws_noise(sd_folder):
    pipeline = open_pipeline(sd_folder)
    pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
    check_denoiser(denoisers.StableDiffusion(), pipeline)


def broken(family, what):
    """``family`` with one fault."""

    class Broken(family):
        def __call__(self, model, noisy, timestep, condition):
            if what == "time":
                timestep = timestep / 2
            if what == "neighbour":
                condition = {name: value.roll(1, 0) for name, value in condition.items()}
            output = super().__call__(model, noisy, timestep, condition)
            return -output if what == "negated" else output

        def encode(self, pipeline, given, device):
            if what == "other text":
                given = [text[::-1] for text in given]
            condition = super().encode(pipeline, given, device)
            return {name: v.roll(1, 0) for name, v in condition.items()} if what == "neighbour's text" else condition

        def null(self, pipeline, device):
            null = super().null(pipeline, device)
            if what == "zeros":
                null |= {name: torch.zeros_like(value) for name, value in null.items() if name in (
                    "prompt_embeds", "pooled", "class_labels")}  # fmt: skip
            return {name: value.squeeze(0) for name, value in null.items()} if what == "null rows" else null

        def features(self, condition):
            found = super().features(condition)
            return found.double() if what == "double" else found[0] if what == "one vector" else found

        def decode(self, pipeline, latents):
            return super().decode(pipeline, 2 * latents if what in ("unscaled", "unscaled twice") else latents)

        def encode_images(self, pipeline, pixels, generator=None):
            latents = super().encode_images(pipeline, pixels, generator)
            if what == "unscaled twice":  # as decode has it, so that only the pipeline tells
                latents = latents / 2
            return latents[:, :2] if what == "channels" else 2 * latents if what == "scaled twice" else latents

        def generate(self, pipeline, condition, null, noise, **kwargs):
            latents = super().generate(pipeline, condition, null, noise, **kwargs)
            return latents + 1 if what == "generated" else latents

    return Broken()


EVERYWHERE = {
    "time": "__call__ passes the model another {time} than the pipeline: latents after step 1 of 3",
    "neighbour": "__call__ returns another output for a row in a batch than for the row alone",
    "negated": "__call__ passes the model what the pipeline does, and returns something else than its output",
    "scaled twice": "decode does not undo how encode_images scales latents",
    "neighbour's text": "for a text in a batch than for that text alone",
}


@pytest.mark.parametrize("what", EVERYWHERE)
@pytest.mark.parametrize(("family", "name"), ADAPTERS, ids=[name for _, name in ADAPTERS])
def test_a_fault_is_found_in_every_family(family, name, what, request):
    sentence = EVERYWHERE[what].format(time="t" if family is denoisers.ZImage else "timestep")
    assert sentence in fault(broken(family, what), opened(name, request), family)


GUIDED = [(family, name) for family, name in ADAPTERS if family not in (denoisers.Flux, denoisers.Flux2)]


@pytest.mark.parametrize(("family", "name"), GUIDED, ids=[name for _, name in GUIDED])
def test_another_null_condition_is_found_in_every_family(family, name, request):
    pipeline = opened(name, request)
    if family is denoisers.StableDiffusionXL:  # it is zeros there
        pipeline.register_to_config(force_zeros_for_empty_prompt=False)
    sentence = fault(broken(family, "zeros"), pipeline, family)
    wanted = "null, inputs and guide are not what" if family is denoisers.DiT else "null is not the condition that"
    assert f"{wanted} the pipeline guides with: latents after step 1 of 3 differ" in sentence


class WithoutInstruction(denoisers.Sana):
    def encode(self, pipeline, given, device):
        embeds, mask, *_ = pipeline.encode_prompt(given, False, device=device)
        return {"prompt_embeds": embeds, "mask": mask}


class WithoutMask(denoisers.Sana):
    def __call__(self, model, noisy, timestep, condition):
        return super().__call__(model, noisy, timestep, condition | {"mask": torch.ones_like(condition["mask"])})


class WithoutScale(denoisers.Sana):
    def __call__(self, model, noisy, timestep, condition):
        return super().__call__(model, noisy, timestep / model.config.timestep_scale, condition)


class WithInstructionForNull(denoisers.Sana):
    def null(self, pipeline, device):
        return self.encode(pipeline, [""], device)


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (WithoutInstruction, "encode returns other conditions than the pipeline's own"),
        (WithoutMask, "__call__ passes the model another encoder_attention_mask than the pipeline"),
        (WithoutScale, "__call__ passes the model another timestep than the pipeline"),
        (WithInstructionForNull, "null is not the condition that the pipeline guides with"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_special_about_sana_is_checked(adapter, sentence, tmp_path):
    pipeline = open_pipeline(pipelines.save_sana(tmp_path / "sana", timestep_scale=0.25))
    assert sentence in fault(adapter(), pipeline, denoisers.Sana)


class Transposed(Wide, denoisers.Flux):
    def __call__(self, model, noisy, timestep, condition):
        def forward(**inputs):
            return model(**inputs | {"img_ids": inputs["img_ids"][:, [0, 2, 1]]})

        forward.config = model.config
        return super().__call__(forward, noisy, timestep, condition)


class OfOneScale(denoisers.Flux):
    def __call__(self, model, noisy, timestep, condition):
        condition = condition | {"guidance": torch.full_like(condition["guidance"], 3.5)}
        return super().__call__(model, noisy, timestep, condition)


class InAnotherOrder(denoisers.Flux):
    def unpack(self, latents, like):
        return super().unpack(latents, like).transpose(-1, -2)


class WithFewerTokens(denoisers.Flux):
    def encode(self, pipeline, given, device):
        embeds, pooled, _ = pipeline.encode_prompt(given, device=device, max_sequence_length=256)
        return {"prompt_embeds": embeds, "pooled": pooled}


class GuidedTwice(denoisers.Flux):
    def guides(self, pipeline):
        return True


@pytest.mark.parametrize(
    ("adapter", "kind", "sentence"),
    [
        (Transposed, "flux_folder", "__call__ passes the model another img_ids than the pipeline"),
        (OfOneScale, "flux_folder", "__call__ passes the model another guidance than the pipeline"),
        (InAnotherOrder, "flux_folder", "__call__ passes the model another hidden_states than the pipeline"),
        (WithFewerTokens, "flux_folder", "encode returns other conditions than the pipeline's own"),
        (GuidedTwice, "flux_schnell_folder", "at guidance 3, null, inputs and guide are not what the pipeline"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_special_about_flux_is_checked(adapter, kind, sentence, request):
    assert sentence in fault(adapter(), small(open_pipeline(request.getfixturevalue(kind))), denoisers.Flux)


class Long(denoisers.Flux2):
    def latent_shape(self, pipeline, resolution=None):
        return 16, 2, 4


class TurnedPlaces(Long):
    def __call__(self, model, noisy, timestep, condition):
        changed = listened(model, lambda inputs: {"img_ids": inputs["img_ids"][..., [0, 2, 1, 3]]})
        return super().__call__(changed, noisy, timestep, condition)


class TextAsInFlux(denoisers.Flux2):
    """All tokens at the same place."""

    def __call__(self, model, noisy, timestep, condition):
        changed = listened(model, lambda inputs: {"txt_ids": torch.zeros_like(inputs["txt_ids"])})
        return super().__call__(changed, noisy, timestep, condition)


class OfOneGuidance(denoisers.Flux2):
    def __call__(self, model, noisy, timestep, condition):
        condition = condition | {"guidance": torch.full_like(condition["guidance"], 3.5)}
        return super().__call__(model, noisy, timestep, condition)


class InRowsAndColumns(denoisers.Flux2):
    def to_autoencoder(self, latents):
        return super().to_autoencoder(latents).transpose(2, 3)

    def from_autoencoder(self, latents):
        return super().from_autoencoder(latents.transpose(2, 3))


class ScaledAlike(denoisers.Flux2):
    """As if all entries of a patch had the same mean and variance."""

    def to_autoencoder(self, latents):
        return super().to_autoencoder(latents).roll(1, 1)

    def from_autoencoder(self, latents):
        return super().from_autoencoder(latents.roll(-1, 1))


class OfOtherLayers(denoisers.Flux2):
    def encode(self, pipeline, given, device):
        embeds, _ = pipeline.encode_prompt(given, device=device, text_encoder_out_layers=(9, 18, 27))
        return {"prompt_embeds": embeds}


class WithoutSystemMessage(denoisers.Flux2):
    def encode(self, pipeline, given, device):
        pipeline = copy.copy(pipeline)
        pipeline.system_message = ""
        return super().encode(pipeline, given, device)


class AlwaysGuided(denoisers.Flux2Klein):
    def guides(self, pipeline):
        return True


class NeverGuided(denoisers.Flux2Klein):
    def guides(self, pipeline):
        return False


@pytest.mark.parametrize(
    ("adapter", "kind", "sentence"),
    [
        (TurnedPlaces, "flux2", "__call__ passes the model another img_ids than the pipeline"),
        (TextAsInFlux, "flux2", "__call__ passes the model another txt_ids than the pipeline"),
        (OfOneGuidance, "flux2", "__call__ passes the model another guidance than the pipeline"),
        (InRowsAndColumns, "flux2", "decode returns other images than the pipeline"),
        (ScaledAlike, "flux2", "decode returns other images than the pipeline"),
        (OfOtherLayers, "flux2", "encode returns other conditions than the pipeline's own"),
        (WithoutSystemMessage, "flux2", "encode returns other conditions than the pipeline's own"),
        (NeverGuided, "klein", "at guidance 3, null, inputs and guide are not what the pipeline guides with"),
        (AlwaysGuided, "distilled", "at guidance 3, null, inputs and guide are not what the pipeline guides with"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_special_about_flux_2_is_checked(adapter, kind, sentence, request, tmp_path):
    distilled = kind == "distilled"
    folder = pipelines.save_klein(tmp_path / "k", True) if distilled else request.getfixturevalue(f"{kind}_folder")
    assert sentence in fault(adapter(), open_pipeline(folder), None)


def test_kinds_and_shapes_of_flux_2(flux2_folder, tmp_path):
    check_denoiser(Long(), open_pipeline(flux2_folder))
    distilled = open_pipeline(pipelines.save_klein(tmp_path / "klein", is_distilled=True))
    check_denoiser(denoisers.Flux2Klein(), distilled, resolution=16)


class OfTimesteps(denoisers.AuraFlow):
    def __call__(self, model, noisy, timestep, condition):
        return super().__call__(model, noisy, 1000 * timestep, condition)


class WithStatesOfPadding(denoisers.AuraFlow):
    def encode(self, pipeline, given, device):
        cut = {"padding": "max_length", "max_length": 256, "truncation": True, "return_tensors": "pt"}
        return {"prompt_embeds": pipeline.text_encoder(**pipeline.tokenizer(given, **cut))[0]}


class OfFewerTokens(denoisers.AuraFlow):
    def encode(self, pipeline, given, device):
        condition = super().encode(pipeline, given, device)
        return {"prompt_embeds": condition["prompt_embeds"][:, :64]}


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (OfTimesteps, "__call__ passes the model another timestep than the pipeline"),
        (WithStatesOfPadding, "encode returns other conditions than the pipeline's own"),
        (OfFewerTokens, "encode returns other conditions than the pipeline's own"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_special_about_auraflow_is_checked(adapter, sentence, request):
    assert sentence in fault(adapter(), open_pipeline(request.getfixturevalue("aura_folder")), None)


class OfTheOtherTime(denoisers.Lumina2):
    def __call__(self, model, noisy, timestep, condition):
        return super().__call__(model, noisy, 1000 - timestep, condition)


class OfTheOtherFlow(denoisers.Lumina2):
    def __call__(self, model, noisy, timestep, condition):
        return -super().__call__(model, noisy, timestep, condition)


class OfPlainlyGuidedFlow(denoisers.Lumina2):
    def guide(self, without, conditioned, scale):
        return guidance.classifier_free(without, conditioned, scale)


class OfNullWithSystemPrompt(denoisers.Lumina2):
    def null(self, pipeline, device):
        return self.encode(pipeline, [""], device)


class WithoutSystemPrompt(denoisers.Lumina2):
    def encode(self, pipeline, given, device):
        pipeline = copy.copy(pipeline)
        pipeline.system_prompt = ""
        return super().encode(pipeline, given, device)


class WithStatesOfAllTokens(denoisers.Lumina2):
    def __call__(self, model, noisy, timestep, condition):
        return super().__call__(model, noisy, timestep, condition | {"mask": torch.ones_like(condition["mask"])})


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (OfTheOtherTime, "__call__ passes the model another timestep than the pipeline"),
        (OfTheOtherFlow, "passes the model what the pipeline does, and returns something else than its output"),
        (OfPlainlyGuidedFlow, "at guidance 3, null, inputs and guide are not what the pipeline guides with"),
        (OfNullWithSystemPrompt, "null is not the condition that the pipeline guides with"),
        (WithoutSystemPrompt, "encode returns other conditions than the pipeline's own"),
        (WithStatesOfAllTokens, "__call__ passes the model another encoder_attention_mask than the pipeline"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_special_about_lumina_is_checked(adapter, sentence, request):
    assert sentence in fault(adapter(), open_pipeline(request.getfixturevalue("lumina_folder")), None)


class OfPlainGuidance(denoisers.QwenImage):
    def guide(self, without, conditioned, scale):
        return guidance.classifier_free(without, conditioned, scale)


class RescaledAsAWhole(denoisers.QwenImage):
    def guide(self, without, conditioned, scale):
        guided = guidance.classifier_free(without, conditioned, scale)
        length, wanted = (output.flatten(1).norm(dim=1).view(-1, 1, 1, 1) for output in (guided, conditioned))
        return guided * wanted / length


class WithoutTemplate(denoisers.QwenImage):
    def encode(self, pipeline, given, device):
        pipeline = copy.copy(pipeline)
        pipeline.prompt_template_encode, pipeline.prompt_template_encode_start_idx = "{}", 0
        return super().encode(pipeline, given, device)


class WithTheWholeTemplate(denoisers.QwenImage):
    def encode(self, pipeline, given, device):
        pipeline = copy.copy(pipeline)
        pipeline.prompt_template_encode_start_idx = 0
        return super().encode(pipeline, given, device)


class WithPadding(denoisers.QwenImage):
    def __call__(self, model, noisy, timestep, condition):
        return super().__call__(model, noisy, timestep, condition | {"mask": torch.ones_like(condition["mask"])})


class OfTheEmptyText(denoisers.QwenImage):
    def null(self, pipeline, device):
        return self.encode(pipeline, [""], device)


class OnItsSide(Wide, denoisers.QwenImage):
    def __call__(self, model, noisy, timestep, condition):
        def forward(**inputs):
            return model(**inputs | {"img_shapes": [[(1, 4, 2)]] * len(noisy)})

        return super().__call__(forward, noisy, timestep, condition)


class AlikeInAllChannels(denoisers.QwenImage):
    def decode(self, pipeline, latents):
        return super().decode(pipeline, latents - self.apart(pipeline))

    def encode_images(self, pipeline, pixels, generator=None):
        return super().encode_images(pipeline, pixels, generator) + self.apart(pipeline)

    def apart(self, pipeline):
        config = pipeline.vae.config
        return (torch.tensor(config.latents_mean) / torch.tensor(config.latents_std)).view(-1, 1, 1)


class AllActive(denoisers.QwenImage):
    def idle(self, model):
        return ()


class TooIdle(denoisers.QwenImage):
    def idle(self, model):
        return (model.transformer_blocks[-1],)


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (AllActive, "does not depend on transformer_blocks.3.attn.to_add_out.bias, which is not in an idle module"),
        (TooIdle, "output depends on transformer_blocks.3.attn.add_k_proj.bias, which is in an idle module"),
        (OfPlainGuidance, "at guidance 3, null, inputs and guide are not what the pipeline guides with"),
        (RescaledAsAWhole, "at guidance 3, null, inputs and guide are not what the pipeline guides with"),
        (WithoutTemplate, "encode returns other conditions than the pipeline's own"),
        (WithTheWholeTemplate, "encode returns other conditions than the pipeline's own"),
        (WithPadding, "__call__ passes the model another encoder_hidden_states_mask than the pipeline"),
        (OfTheEmptyText, "null is not the condition that the pipeline guides with"),
        (OnItsSide, "__call__ passes the model another img_shapes than the pipeline"),
        (AlikeInAllChannels, "decode returns other images than the pipeline"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_special_about_qwen_image_is_checked(adapter, sentence, request):
    assert sentence in fault(adapter(), small(open_pipeline(request.getfixturevalue("qwen_folder"))), None)


class OfTheOtherEnd(denoisers.ZImage):
    def __call__(self, model, noisy, timestep, condition):
        return super().__call__(model, noisy, 1000 - timestep, condition)


class OfTheOtherSign(denoisers.ZImage):
    def __call__(self, model, noisy, timestep, condition):
        return -super().__call__(model, noisy, timestep, condition)


class WithAllItsPadding(denoisers.ZImage):
    def __call__(self, model, noisy, timestep, condition):
        return super().__call__(model, noisy, timestep, condition | {"mask": torch.ones_like(condition["mask"])})


class OfScalesFromOne(denoisers.ZImage):
    def guide(self, without, conditioned, scale):
        return guidance.classifier_free(without, conditioned, scale)


class GuidedAtOne(denoisers.ZImage):
    unguided = 1.0


class OutsideTheTemplate(denoisers.ZImage):
    def encode(self, pipeline, given, device):
        pipeline = copy.copy(pipeline)
        pipeline.tokenizer = copy.copy(pipeline.tokenizer)
        pipeline.tokenizer.chat_template = "{{ messages[0].content }}."
        return super().encode(pipeline, given, device)


class OfTheLastLayer(denoisers.ZImage):
    def encode(self, pipeline, given, device):
        condition = super().encode(pipeline, given, device)
        norm = pipeline.text_encoder.model.norm
        return condition | {"prompt_embeds": norm(condition["prompt_embeds"])}


class Upright(denoisers.ZImage):
    """Latents of another shape, whose height and width are the other way round for the model."""

    def latent_shape(self, pipeline, resolution=None):
        return 4, 4, 8

    def __call__(self, model, noisy, timestep, condition):
        return super().__call__(model, noisy.transpose(2, 3), timestep, condition).transpose(2, 3)


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (OfTheOtherEnd, "__call__ passes the model another t than the pipeline"),
        (OfTheOtherSign, "passes the model what the pipeline does, and returns something else than its output"),
        (WithAllItsPadding, "__call__ passes the model another cap_feats[0], cap_feats[1], cap_feats[2] than the"),
        (OfScalesFromOne, "at guidance 3, null, inputs and guide are not what the pipeline guides with"),
        (GuidedAtOne, "latents after step 1 of 3 differ from the pipeline's by"),
        (OutsideTheTemplate, "encode returns other conditions than the pipeline's own"),
        (OfTheLastLayer, "encode returns other conditions than the pipeline's own"),
        (Upright, "__call__ passes the model another x[0], x[1], x[2] than the pipeline"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_special_about_z_image_is_checked(adapter, sentence, zimage_folder):
    assert sentence in fault(adapter(), open_pipeline(zimage_folder), denoisers.ZImage)


class Oblong(denoisers.ZImage):
    def latent_shape(self, pipeline, resolution=None):
        return 4, 4, 10


def test_shapes_of_z_image(zimage_folder):
    """Of 10 positions, which the model pads to 32, and of 32, which it does not pad."""
    pipeline = open_pipeline(zimage_folder)
    check_denoiser(Oblong(), pipeline)
    check_denoiser(type("Full", (Oblong,), {"latent_shape": lambda *_: (4, 8, 16)})(), pipeline)


class Broad(denoisers.Wan):
    def latent_shape(self, pipeline, resolution=None):
        return 4, 4, 6


@pytest.mark.parametrize("frames", [1, 5, 9])
def test_lengths_and_shapes_of_wan(frames, wan_folder):
    check_denoiser(Broad(), open_pipeline(wan_folder), frames=frames)


def test_wan_with_a_timestep_for_every_position(tmp_path):
    """Wan 2.2 5B, whose autoencoder takes patches of pixels."""
    patches = {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 8}
    pipeline = open_pipeline(pipelines.save_wan(tmp_path / "wan", patches))
    pipeline.register_to_config(expand_timesteps=True)
    check_denoiser(denoisers.Wan(), pipeline, resolution=32, frames=5)


def test_kinds_of_wan(tmp_path):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    check_denoiser(denoisers.Wan(), open_pipeline(pipelines.save_wan(tmp_path / "wan", scheduler=scheduler)),
                   resolution=16, frames=5)  # fmt: skip


class WithTheTokensOfItsEncoder(denoisers.Wan):
    def encode(self, pipeline, given, device):
        embeds, _ = pipeline.encode_prompt(given, do_classifier_free_guidance=False, device=device)
        return {"prompt_embeds": embeds}


class AsOneNumber(denoisers.Wan):
    """Latents scaled by what they have on average."""

    def decode(self, pipeline, latents):
        mean, std = (sum(pipeline.vae.config[name]) / 4 for name in ("latents_mean", "latents_std"))
        pixels = pipeline.vae.decode(latents * std + mean, return_dict=False)[0]
        return (pixels / 2 + 0.5).clamp(0, 1)


class OfLatents(denoisers.Wan):
    """As many frames as latents."""

    def time_scale(self, pipeline):
        return 1


class Turned(denoisers.Wan):
    """Height and width the other way round."""

    def __call__(self, model, noisy, timestep, condition):
        return super().__call__(model, noisy.transpose(3, 4), timestep, condition).transpose(3, 4)


class Backwards(denoisers.Wan):
    """The last frame first."""

    def __call__(self, model, noisy, timestep, condition):
        return super().__call__(model, noisy.flip(2), timestep, condition).flip(2)


class OfLevels(denoisers.Wan):
    """Timesteps from 0 to 1, as Flux has them."""

    def __call__(self, model, noisy, timestep, condition):
        return super().__call__(model, noisy, timestep / 1000, condition)


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (WithTheTokensOfItsEncoder, "encode returns other conditions than the pipeline's own"),
        (AsOneNumber, "decode does not undo how encode_images scales latents"),
        (OfLatents, "decode must return images of (3, 3, 5, 16, 16), got (3, 3, 17, 16, 16)"),
        (Turned, "__call__ passes the model another hidden_states than the pipeline"),
        (Backwards, "__call__ passes the model another hidden_states than the pipeline"),
        (OfLevels, "__call__ passes the model another timestep than the pipeline"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_special_about_wan_is_checked(adapter, sentence, wan_folder):
    assert sentence in fault(adapter(), open_pipeline(wan_folder), denoisers.Wan)


class Extended(denoisers.LTX):
    def latent_shape(self, pipeline, resolution=None):
        return 4, 2, 3


@pytest.mark.parametrize("frames", [1, 17])
@pytest.mark.parametrize("takes_time", [False, True])
def test_lengths_shapes_and_autoencoders_of_ltx(frames, takes_time, tmp_path):
    folder = pipelines.save_ltx(tmp_path / "ltx", {"timestep_conditioning": takes_time})
    check_denoiser(Extended(), open_pipeline(folder), frames=frames)


def test_an_autoencoder_of_other_sides_is_refused(tmp_path):
    fewer = {"spatio_temporal_scaling": (True, True, False, False)}
    folder = pipelines.save_ltx(tmp_path / "ltx", fewer | {f"decoder_{name}": value for name, value in fewer.items()})
    with pytest.raises(ValueError, match="has latents of 16 pixels a side and 4 frames, in patches of 1 and 1: 32 and"):
        denoisers.of(open_pipeline(folder))


def listened(model, change):
    """``model`` with other inputs."""

    def forward(**inputs):
        return model(**inputs | change(inputs))

    forward.config = model.config
    return forward


class InFrames(denoisers.LTX):
    """Positions in time are latents, not seconds."""

    def __call__(self, model, noisy, timestep, condition):
        changed = listened(model, lambda inputs: {"rope_interpolation_scale": (8, 32, 32)})
        return super().__call__(changed, noisy, timestep, condition)


class Exchanged(Extended):
    """Height and width the other way round."""

    def __call__(self, model, noisy, timestep, condition):
        changed = listened(model, lambda inputs: {"height": inputs["width"], "width": inputs["height"]})
        return super().__call__(changed, noisy, timestep, condition)


class WithAllTokens(denoisers.LTX):
    def __call__(self, model, noisy, timestep, condition):
        return super().__call__(model, noisy, timestep, condition | {"mask": torch.ones_like(condition["mask"])})


class InTheOrderOfPlaces(denoisers.LTX):
    """Time behind height and width."""

    def unpack(self, latents, like):
        return super().unpack(latents, like.permute(0, 1, 3, 4, 2)).permute(0, 1, 4, 2, 3)


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (InFrames, "__call__ passes the model what the pipeline does, and returns something else than its output"),
        (Exchanged, "__call__ passes the model what the pipeline does, and returns something else than its output"),
        (WithAllTokens, "__call__ passes the model another encoder_attention_mask than the pipeline"),
        (InTheOrderOfPlaces, "__call__ passes the model another hidden_states than the pipeline"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_special_about_ltx_is_checked(adapter, sentence, ltx_folder):
    assert sentence in fault(adapter(), open_pipeline(ltx_folder), denoisers.LTX)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("other text", "encode returns other conditions than the pipeline's own: latents after step 1 of 3 differ"),
        ("null rows", "null must return prompt_embeds of (1, 12, 8), got (12, 8)"),
        ("double", "features must be float32, got torch.float64"),
        ("one vector", "features must be one vector per condition, (3, D), got (8,)"),
        ("unscaled", "decode does not undo how encode_images scales latents"),
        ("unscaled twice", "decode returns other images than the pipeline"),
        ("channels", "encode_images must return (3, 4, 8, 8), as shape says, got (3, 2, 8, 8)"),
        ("generated", "generate returns other latents than the loop"),
    ],
)
def test_other_faults_are_named(what, sentence, sd_folder):
    assert sentence in fault(broken(denoisers.StableDiffusion, what), open_pipeline(sd_folder), None)


def test_what_cannot_be_checked_is_refused(sd_folder):
    pipeline, adapter = open_pipeline(sd_folder), denoisers.StableDiffusion()
    with pytest.raises(ValueError, match="PixArt is an adapter for PixArtAlphaPipeline, .* got a Stable"):
        check_denoiser(denoisers.PixArt(), pipeline)
    with pytest.raises(ValueError, match="give at least 3 texts, all different, got"):
        check_denoiser(adapter, pipeline, texts=["a", "b", "a", "c"])
    half = copy.copy(pipeline)
    half.register_modules(vae=pipelines.vae().half().eval())
    with pytest.raises(ValueError, match="the pipeline's vae is not in float32"):
        check_denoiser(adapter, half)
    half.register_modules(vae=pipelines.vae().train())
    with pytest.raises(ValueError, match=r"the pipeline's vae is in training mode, .* call eval\(\)"):
        check_denoiser(adapter, half)


def test_every_pipeline_of_a_family_is_tried():
    assert {name for _, name in ADAPTERS} == FOLDERS.keys()
