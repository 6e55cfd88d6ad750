"""``aria prune``: from a teacher's folder to a student's folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from aria.cli.commands.prune import command
from aria.distill.students import build_student, folder, plan_student, read_feature_pairs, read_record, write_student

from .unets import SMALL_SD, TWO_STAGES, full, inputs, teacher_unet


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A teacher's UNet in a folder of its own."""
    place = tmp_path_factory.mktemp("teachers") / "unet"
    teacher_unet(SMALL_SD).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory):
    """A teacher that is quick to prune."""
    place = tmp_path_factory.mktemp("teachers") / "two-stages"
    teacher_unet(TWO_STAGES).save_pretrained(place)
    return place


def run(teacher, student, *arguments):
    return CliRunner().invoke(
        command, ["--pretrained_model_name_or_path", str(teacher), "--output_dir", str(student), *map(str, arguments)]
    )


def test_student_of_a_pipeline_opens_without_custom_code(sd_folder, tmp_path):
    result = run(sd_folder, tmp_path / "student", "--preset", "bk-small")
    assert result.exit_code == 0, result.output
    rows = [line.split()[0] for line in result.output.splitlines()]
    assert rows == ["parameters", "teacher", "student", "kept", "weights:"]
    assert {entry.name for entry in (tmp_path / "student").iterdir()} == {
        "config.json", "diffusion_pytorch_model.safetensors", "student.json", "inheritance.json"
    }  # fmt: skip
    student, loading = UNet2DConditionModel.from_pretrained(tmp_path / "student", output_loading_info=True)
    assert not any(loading.values())
    assert student.mid_block is None
    weights = UNet2DConditionModel.from_pretrained(sd_folder / "unet").state_dict()
    assert torch.equal(student.up_blocks[3].resnets[1].conv1.weight, weights["up_blocks.3.resnets.2.conv1.weight"])
    assert torch.isfinite(student(**inputs(student.config)).sample).all()
    assert str(sd_folder) not in (tmp_path / "student" / "config.json").read_text()
    assert not list(tmp_path.glob(".*"))


def test_the_record_holds_the_origin_of_the_student(teacher, tmp_path):
    result = run(teacher, tmp_path / "s", "--preset", "bk-tiny", "--json")
    record = read_record(tmp_path / "s")
    assert json.loads(result.output) | {"format": folder.FORMAT} == record
    assert record["teacher"]["path"] == str(teacher)
    assert record["teacher"]["config_sha256"] == folder.config_digest(full(SMALL_SD))
    assert record["blocks"] == {"preset": "bk-tiny", "block_map": None}
    student = UNet2DConditionModel.from_pretrained(tmp_path / "s")
    assert record["parameters"]["student"] == student.num_parameters() == record["init"]["copied"]
    assert record["parameters"]["teacher"] == teacher_unet(SMALL_SD).num_parameters()
    assert 0 < record["macs"]["student"] < record["macs"]["teacher"]
    pairs = read_feature_pairs(tmp_path / "s")
    assert ("down_blocks.2.attentions.1.proj_out", "down_blocks.2.attentions.0.proj_out") in pairs
    for teacher_layer, student_layer in pairs:
        assert teacher_unet(SMALL_SD).get_submodule(teacher_layer) and student.get_submodule(student_layer)
    inheritance = json.loads((tmp_path / "s" / "inheritance.json").read_text())
    assert inheritance["copied"]["from"]["up_blocks.0.resnets.1.conv1.bias"] == "up_blocks.1.resnets.2.conv1.bias"
    assert inheritance["copied"]["parameters"] == student.num_parameters()
    assert "mid_block.resnets.0.conv1.bias" in inheritance["unused"]["names"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.json", '{"down": {"0": {"resnets": [0]}}, "mid": false}'),
        ("map.yaml", "down: {0: {resnets: [0]}}\nmid: no\n"),
    ],
    ids=["json", "yaml"],
)
def test_block_maps_from_files_and_widths(two_stages, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    result = run(two_stages, tmp_path / "s", "--block_map", tmp_path / name, "--width", "0.5")
    assert result.exit_code == 0, result.output
    config = UNet2DConditionModel.from_pretrained(tmp_path / "s").config
    assert config.layers_per_block == [1, 2] and config.mid_block_type is None
    assert config.block_out_channels == [2, 4]
    assert read_record(tmp_path / "s")["init"]["sliced"] > 0


def test_widths_from_the_command_line(two_stages, tmp_path):
    result = run(two_stages, tmp_path / "s", "--block_out_channels", "2,8", "--init", "fresh", "--seed", "3")
    assert result.exit_code == 0, result.output
    record = read_record(tmp_path / "s")
    assert record["init"] == {"how": "fresh", "seed": 3, "copied": 0, "sliced": 0,
                              "fresh": record["parameters"]["student"]}  # fmt: skip


def test_overwriting_replaces_a_student_and_nothing_else(two_stages, tmp_path):
    assert run(two_stages, tmp_path / "s", "--preset", "bk-base").exit_code == 0
    again = run(two_stages, tmp_path / "s", "--preset", "bk-small")
    assert again.exit_code == 2 and "is not empty" in again.output
    assert read_record(tmp_path / "s")["blocks"]["preset"] == "bk-base"
    assert run(two_stages, tmp_path / "s", "--preset", "bk-small", "--overwrite").exit_code == 0
    assert read_record(tmp_path / "s")["blocks"]["preset"] == "bk-small"
    foreign = run(two_stages, two_stages, "--preset", "bk-small", "--overwrite")
    assert foreign.exit_code == 2 and "no student (it has no student.json), so it is not overwritten" in foreign.output


def test_a_write_that_fails_leaves_what_was_there(two_stages, tmp_path, monkeypatch):
    assert run(two_stages, tmp_path / "s", "--preset", "bk-base").exit_code == 0

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder.files, "write_json", full_disk)
    for name in ("s", "new"):
        result = run(two_stages, tmp_path / name, "--preset", "bk-small", "--overwrite")
        assert result.exit_code == 2
        assert result.output == f"Error: cannot write {tmp_path / name}: No space left on device\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]
    assert read_record(tmp_path / "s")["blocks"]["preset"] == "bk-base"


def test_a_student_that_cannot_be_replaced_stays(two_stages, tmp_path, monkeypatch):
    assert run(two_stages, tmp_path / "s", "--preset", "bk-base").exit_code == 0
    rename = Path.rename

    def refuse(source, target):
        if source.suffix == ".part":
            raise OSError(1, "Operation not permitted")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", refuse)
    result = run(two_stages, tmp_path / "s", "--preset", "bk-small", "--overwrite")
    assert result.exit_code == 2 and "Operation not permitted" in result.output
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]
    assert read_record(tmp_path / "s")["blocks"]["preset"] == "bk-base"


def test_mistakes_exit_with_2_and_one_line(two_stages, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.yaml").write_text("down: {0: [")
    torch.manual_seed(0)
    AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, sample_size=8).save_pretrained(tmp_path / "vae")
    new = tmp_path / "new"
    cases = [
        ((two_stages, new), "nothing is removed; give --preset, --block_map, --width or --block_out_channels"),
        ((two_stages, new, "--preset", "bk-huge"), "there is no preset 'bk-huge'; there are bk-base, bk-small"),
        ((two_stages, new, "--preset", "bk-tiny"), "bk-tiny needs at least 3 stages, this UNet has 2"),
        ((tmp_path / "vae", new, "--preset", "bk-base"), "vae holds a AutoencoderKL; a student is made from a UNet2D"),
        ((tmp_path / "empty", new, "--preset", "bk-base"), "empty is no model folder: it has no config.json"),
        ((tmp_path / "no", new, "--preset", "bk-base"), "there is no such folder"),
        ((two_stages, tmp_path / "file", "--preset", "bk-base"), "file is a file, not a folder"),
        ((two_stages, tmp_path / "file" / "s", "--preset", "bk-base"), "file/s: Not a directory"),
        ((two_stages, two_stages, "--preset", "bk-base"), "two-stages is not empty; choose another folder"),
        ((two_stages, new, "--block_map", tmp_path / "none"), "none: No such file or directory"),
        ((two_stages, new, "--block_map", tmp_path / "bad.yaml"), "bad.yaml, line 1 is neither JSON nor YAML"),
        ((two_stages, new, "--block_out_channels", "4;8"), "takes numbers such as 240,480,960,960, got '4;8'"),
        ((two_stages, new, "--width", "0.5", "--init", "random"), "init must be 'slice' or 'copy' or 'fresh'"),
        ((two_stages, new, "--width", "0"), "width must lie in (0, 1], got 0.0"),
    ]
    for arguments, sentence in cases:
        result = run(*arguments)
        assert result.exit_code == 2, (sentence, result.output)
        assert sentence in result.output
        assert result.output.count("\n") == 1
    assert not new.exists()


@pytest.mark.filterwarnings("ignore::UserWarning:diffusers")
def test_a_teacher_without_all_its_weights_is_refused(two_stages, tmp_path):
    shutil.copytree(two_stages, tmp_path / "torn")
    file = tmp_path / "torn" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["conv_in.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    result = run(tmp_path / "torn", tmp_path / "s", "--width", "0.5")
    assert result.exit_code == 2
    assert result.output.endswith("torn are not complete: conv_in.weight is missing, 1 in all\n")


def test_records_that_are_none(tmp_path):
    (tmp_path / "student.json").write_text("[]")
    with pytest.raises(ValueError, match="is no record of a student"):
        read_record(tmp_path)
    with pytest.raises(ValueError, match="cannot read .*: No such file or directory"):
        read_record(tmp_path / "nowhere")


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_student_folder_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").mkdir()
    plan = plan_student(full(TWO_STAGES), width=0.5)
    student, inheritance = build_student(plan, teacher_unet(TWO_STAGES))
    write_student(tmp_path / "s", student, {"feature_pairs": []}, inheritance)
    assert (tmp_path / "s").stat().st_mode == (tmp_path / "usual").stat().st_mode
