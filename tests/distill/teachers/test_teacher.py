"""Teachers and pipelines as they are loaded."""

from __future__ import annotations

import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from aria.distill.models.denoisers import (
    LTX,
    AuraFlow,
    DiT,
    Flux,
    Flux2,
    Flux2Klein,
    Lumina2,
    PixArt,
    QwenImage,
    Sana,
    StableDiffusion,
    StableDiffusion3,
    StableDiffusionXL,
    Wan,
    ZImage,
)
from aria.distill.models.pipelines import component_of, open_model, open_pipeline
from aria.distill.students import prune
from aria.distill.teachers.teacher import Teacher


@pytest.mark.parametrize(
    ("folder", "adapter", "prediction"),
    [
        ("sd_folder", StableDiffusion, "epsilon"),
        ("sd_v_folder", StableDiffusion, "v_prediction"),
        ("sdxl_folder", StableDiffusionXL, "epsilon"),
    ],
)
def test_a_pipelines_teacher(folder, adapter, prediction, request):
    pipeline = open_pipeline(request.getfixturevalue(folder))
    teacher = Teacher.of(pipeline)
    assert type(teacher.denoiser) is adapter and teacher.prediction == prediction and teacher.component == "unet"
    assert teacher.model is pipeline.unet and len(teacher.schedule) == 1000
    torch.testing.assert_close(teacher.schedule.alpha**2, pipeline.scheduler.alphas_cumprod)


def test_a_model_is_opened_from_its_folder_or_its_pipelines(sd_folder):
    one, other = open_model(sd_folder), open_model(str(sd_folder / "unet"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert isinstance(one.config["_name_or_path"], str)
    assert isinstance(open_pipeline(sd_folder).config["_name_or_path"], str)


def test_a_teacher_that_came_over_in_part_is_refused(sd_folder, tmp_path):
    """An interrupted download, at the end of a file or between two."""
    torn, part = tmp_path / "torn", tmp_path / "part"
    for folder in (torn, part):
        shutil.copytree(sd_folder, folder)
    path = torn / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    path = part / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["conv_in.weight"]
    save_file(weights, path)
    for folder, sentence in ((torn, "cannot open the"), (part, "not complete: conv_in.weight is missing, 1 in all")):
        for opens in (open_pipeline, open_model):
            with pytest.raises(ValueError, match=sentence):
                opens(folder)


def test_refusals(sd_folder, tmp_path):
    with pytest.raises(ValueError, match="SimpleNamespace has no denoising model; one is called unet or transformer"):
        component_of(SimpleNamespace(unet=None))
    with pytest.raises(ValueError, match="is no model folder: it has no config.json"):
        open_model(sd_folder / "tokenizer" / "nothing")
    with pytest.raises(ValueError, match="prediction must be"):
        Teacher(None, StableDiffusion(), None, "noise")
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match="has no denoising model; one is called"):
        open_model(tmp_path)
    with pytest.raises(ValueError, match="model_index.json names None, which is no pipeline of diffusers"):
        open_pipeline(tmp_path)


@pytest.mark.parametrize(
    ("folder", "adapter", "terms"),
    [
        ("dit_folder", DiT, ["proj_out_2"]),
        ("flux_folder", Flux, []),
        ("flux2_folder", Flux2, []),
        ("klein_folder", Flux2Klein, []),
        ("pixart_folder", PixArt, ["proj_out"]),
        ("aura_folder", AuraFlow, []),
        ("lumina_folder", Lumina2, []),
        ("qwen_folder", QwenImage, []),
        ("sana_folder", Sana, []),
        ("sd3_folder", StableDiffusion3, []),
        ("zimage_folder", ZImage, []),
        ("wan_folder", Wan, []),
        ("ltx_folder", LTX, []),
    ],
)
def test_a_transformers_teacher(folder, adapter, terms, request):
    pipeline = open_pipeline(request.getfixturevalue(folder))
    teacher = Teacher.of(pipeline)
    flows = adapter not in (DiT, PixArt)
    assert type(getattr(teacher.denoiser, "evaluate", teacher.denoiser)) is adapter
    assert teacher.component == "transformer"
    assert teacher.prediction == ("flow_prediction" if flows else "epsilon")
    assert (teacher.schedule.time is not None) == flows
    assert teacher.model is pipeline.transformer and [term.layer for term in teacher.terms] == terms
    pipeline.transformer.register_to_config(out_channels=4)
    assert Teacher.of(pipeline).terms == ()  # no variance, nothing to match


def test_names_of_classes_survive_being_opened_and_saved_again(dit_folder, tmp_path):
    pipeline = open_pipeline(dit_folder)
    assert pipeline.get_label_ids(["tench", "golden retriever"]) == [0, 207]
    pipeline.save_pretrained(tmp_path / "again")
    assert open_pipeline(tmp_path / "again").labels == pipeline.labels
    assert open_model(tmp_path / "again").config.num_embeds_ada_norm == 1000


@pytest.mark.parametrize("kind", ["dit", "pixart"])
def test_transformers_under_the_name_they_were_published_with(kind, request, tmp_path):
    """Older folders call both classes Transformer2DModel; diffusers resolves which is meant."""
    old = shutil.copytree(request.getfixturevalue(f"{kind}_folder"), tmp_path / "old")
    for name in ("model_index.json", "transformer/config.json"):
        text = (old / name).read_text()
        (old / name).write_text(re.sub(r"(DiT|PixArt)Transformer2DModel", "Transformer2DModel", text))
    model, pipeline = open_model(old), open_pipeline(old)
    assert type(model) is type(pipeline.transformer) and type(model).__name__.startswith(("DiT", "PixArt"))
    prune(old, tmp_path / "student", preset="half")
    assert open_model(tmp_path / "student").config.num_layers == 2
