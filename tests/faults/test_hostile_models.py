"""Pipelines, models and students that someone else has made: opened, or refused in one line by the file's name."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys

import pytest

if importlib.util.find_spec("diffusers") is None:
    pytest.skip("needs diffusers", allow_module_level=True)

from aria.distill.evaluation.quantise import open_quantised
from aria.distill.models.pipelines import open_model, open_pipeline
from aria.distill.models.weight_files import check_file
from aria.distill.students import read_feature_pairs
from tests.distill import pipelines

pytestmark = pytest.mark.usefixtures("alarm")

@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return pipelines.save_sd(tmp_path_factory.mktemp("hostile") / "sd")


@pytest.fixture
def teacher(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "teacher")


def refused(opens, *arguments):
    with pytest.raises(ValueError, match=r"^[^\n]+\Z") as caught:
        opens(*arguments)
    return str(caught.value)


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("content", ["[]", "null", "1", '"x"', "{}", "{", "[" * 9000, '{"a":' * 200 + "1" + "}" * 200])
def test_an_index_that_is_none_is_refused(content, teacher):
    (teacher / "model_index.json").write_text(content)
    assert "model_index.json" in refused(open_pipeline, teacher)


@pytest.mark.parametrize("name", [None, 1, [], ["pipeline", "Own"], "", "Nope", "UNet2DConditionModel", "__name__"])
def test_an_unknown_pipeline_is_refused(name, teacher):
    change(teacher / "model_index.json", _class_name=name)
    assert "which is no pipeline of diffusers" in refused(open_pipeline, teacher)


@pytest.mark.parametrize(
    "kind",
    [[], ["diffusers"], [1, 2], ["diffusers", None], ["diffusers", "Nope"], ["nope", "Nope"], ["subprocess", "Popen"],
     ["aria.bench", "Runner"], ["__class__", "x"], ["a", "b", "c"], "x", 3, None, {}, True],
)  # fmt: skip
def test_an_unknown_part_is_refused_and_not_imported(kind, teacher):
    sys.modules.pop("antigravity", None)
    change(teacher / "model_index.json", unet=kind)
    refused(open_pipeline, teacher)
    change(teacher / "model_index.json", unet=["antigravity", "fly"])
    assert "is of the library 'antigravity', from which nothing is loaded" in refused(open_pipeline, teacher)
    assert "antigravity" not in sys.modules
    change(teacher / "model_index.json", unet=["diffusers", "UNet2DConditionModel"], **{"../../etc": ["os", "x"]})
    assert "is no name of a part" in refused(open_pipeline, teacher)


@pytest.mark.parametrize(
    "values",
    [{"sample_size": "x"}, {"block_out_channels": 3}, {"act_fn": []}, {"layers_per_block": 2**63},
     {"in_channels": 10**12}, {"norm_num_groups": 10**400},
     {"down_block_types": [1]}, {"layers_per_block": 10**7}, {"class_embed_type": [1]},
     {"cross_attention_dim": {"a": 1}}, {"norm_eps": float("nan")}, {"layers_per_block": -1}],
)  # fmt: skip
def test_a_model_of_foreign_values_is_refused(values, teacher):
    change(teacher / "unet" / "config.json", **values)
    assert str(teacher) in refused(open_model, teacher)
    assert str(teacher) in refused(open_pipeline, teacher)


def test_a_nested_configuration_is_refused(teacher):
    deep: object = 1
    for _ in range(40):
        deep = {"a": [deep]}
    change(teacher / "unet" / "config.json", more=deep)
    assert "nested more than 32 deep" in refused(open_model, teacher)


@pytest.mark.parametrize("name", ["vae", "text_encoder", "scheduler"])
def test_other_parts_of_foreign_values_are_refused(name, teacher):
    path = next((teacher / name).glob("*config.json"))
    for key in ("num_train_timesteps", "num_hidden_layers", "layers_per_block"):
        change(path, **{key: 2**63})
    assert f"{path}" in refused(open_pipeline, teacher)


@pytest.mark.parametrize(
    "name", ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
             "tokenizer/tokenizer.json", "text_encoder/config.json", "scheduler/scheduler_config.json"],
)  # fmt: skip
def test_only_regular_files_are_opened(name, teacher):
    path = teacher / name
    path.unlink()
    os.mkfifo(path)
    refused(open_pipeline, teacher)
    if name.startswith("unet"):
        assert "is a pipe" in refused(open_model, teacher)
    path.unlink()
    path.symlink_to("/dev/zero")
    refused(open_pipeline, teacher)


def test_a_tokenizer_that_does_not_say_its_length_is_refused(teacher):
    path = teacher / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "model_max_length"}))
    assert "tokenizer lacks model_max_length" in refused(open_pipeline, teacher)


def test_a_header_of_gigabytes_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "a.safetensors").open("wb") as file:
        file.write((10**9).to_bytes(8, "little"))
        file.truncate(10**9 + 100)  # takes no space
    assert "its header would be 1,000,000,000 bytes" in refused(check_file, tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "pairs", [None, 1, "ab", {}, [1], [[]], [["a"]], [["a", 1]], [["a", "b", "c"]], [{"a": 1, "b": 2}], ["ab"]]
)
def test_feature_pairs_of_another_shape_are_refused(pairs, tmp_path):
    (tmp_path / "student.json").write_text(json.dumps({"format": "aria-student/1", "feature_pairs": pairs}))
    assert "feature_pairs must be a list of pairs of modules" in refused(read_feature_pairs, tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "aria-student/1"}', "[" * 9000, "\xff"])
def test_a_record_that_is_none_is_refused(content, tmp_path):
    (tmp_path / "student.json").write_bytes(content.encode("latin-1"))
    assert "student.json" in refused(read_feature_pairs, tmp_path)


def test_a_record_that_is_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "student.json")
    assert "student.json is a pipe, not a file" in refused(read_feature_pairs, tmp_path)


@pytest.mark.parametrize("layers", [None, [], {"a": 1}, "x"])
def test_layers_of_a_quantised_model_of_another_shape_are_refused(layers, tmp_path):
    (tmp_path / "quantisation.json").write_text(json.dumps({"format": "aria-quantised/1", "layers": layers}))
    assert "layers must be an object" in refused(open_quantised, tmp_path)
