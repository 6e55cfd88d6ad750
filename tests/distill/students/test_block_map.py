"""Block maps: how they are read, and which are refused."""

from __future__ import annotations

import re

import pytest

from aria.distill.students import plan_student, preset, read_map

from .unets import SD14, SDXL, SMALL_SD, TWO_STAGES, full, on_meta


def plan(spec, config=SD14):
    return plan_student(full(config), block_map=spec)


def test_nothing_named_keeps_everything():
    config = full(SD14)
    student = plan({}).config
    assert on_meta(student).state_dict().keys() == on_meta(config).state_dict().keys()
    assert {key: student[key] for key in SD14} == SD14


def test_preset_writes_the_config_users_of_diffusers_know():
    student = plan_student(full(SD14), preset="bk-tiny").config
    assert student["layers_per_block"] == 1
    assert student["mid_block_type"] is None
    assert student["down_block_types"] == ["CrossAttnDownBlock2D"] * 3
    assert student["up_block_types"] == ["CrossAttnUpBlock2D"] * 3
    assert student["block_out_channels"] == [320, 640, 1280]


def test_names_follow_the_blocks():
    source = plan_student(full(SD14), preset="bk-base").blocks.source
    assert source("up_blocks.2.resnets.1.conv1.weight") == "up_blocks.2.resnets.2.conv1.weight"
    assert source("up_blocks.2.attentions.1.proj_in.weight") == "up_blocks.2.attentions.2.proj_in.weight"
    assert source("up_blocks.2.upsamplers.0.conv.weight") == "up_blocks.2.upsamplers.0.conv.weight"
    assert source("conv_in.weight") == "conv_in.weight"
    source = plan_student(full(SD14), preset="bk-tiny").blocks.source
    assert source("up_blocks.0.resnets.1.conv1.weight") == "up_blocks.1.resnets.2.conv1.weight"
    assert source("up_blocks.1.upsamplers.0.conv.weight") == "up_blocks.2.upsamplers.0.conv.weight"
    source = plan({"down": {"2": {"transformer_blocks": [0, 4, 9]}}}, SDXL).blocks.source
    inner = "transformer_blocks.{}.attn1.to_q.weight"
    for block in ("down_blocks.2.attentions.1.", "up_blocks.0.attentions.2.", "mid_block.attentions.0."):
        assert source(block + inner.format(2)) == block + inner.format(9)
    assert source("down_blocks.1.attentions.0." + inner.format(1)) == "down_blocks.1.attentions.0." + inner.format(1)


@pytest.mark.parametrize("name", ["bk-base", "bk-small"])
def test_feature_pairs_of_base_and_small(name):
    same = [f"{side}_blocks.{k}" for side in ("down", "up") for k in range(4)]
    assert plan_student(full(SD14), preset=name).feature_pairs == [(block, block) for block in same]


def test_feature_pairs_of_tiny():
    assert plan_student(full(SD14), preset="bk-tiny").feature_pairs == [
        ("down_blocks.0", "down_blocks.0"),
        ("down_blocks.1", "down_blocks.1"),
        ("down_blocks.2.attentions.1.proj_out", "down_blocks.2.attentions.0.proj_out"),
        ("up_blocks.1", "up_blocks.0"),
        ("up_blocks.2", "up_blocks.1"),
        ("up_blocks.3", "up_blocks.2"),
    ]


def test_feature_pairs_where_the_last_stage_has_no_attention():
    spec = {"down": {"3": False, "2": {"attentions": []}}, "mid": False}
    assert ("down_blocks.2.resnets.1", "down_blocks.2.resnets.1") in plan(spec).feature_pairs


@pytest.mark.parametrize(
    "spec",
    [
        {"down": {"0": {"resnets": [0]}}},
        {"down": [{"resnets": [0]}, True, True, False], "up": {0: False}},
        {"down": {1: {"attentions": []}}, "mid": False},
        {"up": {"3": {"attentions": []}, "0": {"resnets": [0, 1, 2]}}},
        {"down": {3: {"resnets": [1]}}, "up": {0: {"resnets": [1, 2]}}},
        {"down": {3: False}, "up": {1: {"resnets": [0, 1, 2], "attentions": [0, 1, 2]}}},
    ],
)
def test_maps_that_a_config_expresses_have_a_source_for_every_tensor(spec):
    teacher, student = on_meta(SD14).state_dict(), plan(spec)
    for name, tensor in on_meta(student.config).state_dict().items():
        assert teacher[student.blocks.source(name)].shape == tensor.shape


def test_transformer_blocks_may_differ_between_down_and_up():
    spec = {"down": {"2": {"transformer_blocks": [0, 1]}}, "up": {"0": {"transformer_blocks": [0, 5, 9]}}}
    student = plan(spec, SDXL)
    assert student.config["reverse_transformer_layers_per_block"] == [3, 2, 1]
    names = on_meta(student.config).state_dict()
    assert {student.blocks.source(name) for name in names} <= on_meta(SDXL).state_dict().keys()


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ([], "a block map is an object with the keys down, mid and up"),
        ({"middle": False}, "a block map is an object with the keys down, mid and up"),
        ({"down": {"4": False}}, "down.4: the teacher's stages are down.0 to down.3"),
        ({"down": {"first": False}}, "down: the keys are stage numbers from 0 to 3"),
        ({"down": [True]}, "down is an object by stage number or a list of 4 entries"),
        ({"up": {"1": {"resnet": [0]}}}, "up.1 is true, false or an object with resnets, attentions"),
        ({"up": {"1": None}}, "up.1 is true, false or an object"),
        ({"down": {"1": {"resnets": [0, 2]}}}, "down.1.resnets must be ascending numbers from 0 to 1"),
        ({"down": {"1": {"resnets": []}}}, "down.1.resnets must be ascending numbers from 0 to 1, at least one"),
        ({"down": {"1": {"resnets": [1, 0]}}}, "down.1.resnets must be ascending"),
        ({"down": {"1": {"resnets": [True]}}}, "down.1.resnets must be ascending"),
        ({"down": {"1": {"resnets": "0"}}}, "down.1.resnets must be ascending"),
        ({"down": {"1": {"attentions": [0]}}}, "down.1.attentions must be [0, 1] or [], got [0]"),
        ({"down": {"3": {"attentions": [0, 1]}}}, "down.3.attentions must be [], got [0, 1]"),
        ({"down": {"1": {"resnets": [1]}}}, "down.1.resnets [1]: resnet 1 reads 640 channels in the teacher and"),
        ({"down": {"0": False}}, "down.0 cannot be removed: it reads conv_in"),
        ({"down": {"2": False}}, "down.3.resnets [0, 1]: resnet 0 reads 1280 channels in the teacher and would read"),
        ({"down": {"3": False}, "up": {"0": True}}, "up.0 cannot stay: the down stage it mirrors is removed"),
        ({"up": {"0": False}}, "up.0 cannot be removed: down.3, which it mirrors, stays"),
        ({"up": {"1": {"resnets": [0, 2]}}}, "up.1.resnets [0, 2]: down.2 keeps 2, so 3 must stay"),
        ({"down": {"2": {"resnets": [0]}}, "up": {"1": True}}, "up.1.resnets [0, 1, 2]: down.2 keeps 1, so 2 must"),
        (
            {"down": {"1": {"resnets": [0]}}, "up": {"2": {"resnets": [1, 2]}}},
            "up.2.resnets [1, 2]: resnet 1 reads 640+640 channels in the teacher and would read 1280+640",
        ),
        ({"mid": "no"}, "mid must be true or false, got 'no'"),
        ({"down": {"0": {"transformer_blocks": [1]}}}, "down.0.transformer_blocks must be ascending numbers"),
        ({"down": {"3": {"transformer_blocks": [0]}}}, "down.3.transformer_blocks: no attention with transformer"),
    ],
)
def test_what_a_map_cannot_mean_is_refused_by_entry(spec, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}.*$"):
        plan(spec)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"down": {"2": False}}, "mid cannot stay: it has channels 1280, and the last stage down.1 has 640"),
        ({"up": {"0": {"transformer_blocks": [10]}}}, "up.0.transformer_blocks must be ascending numbers from 0 to 9"),
    ],
)
def test_sdxl_maps_that_no_config_expresses(spec, sentence):
    with pytest.raises(ValueError, match="^" + sentence):
        plan(spec, SDXL)


def test_a_mid_block_with_other_heads_or_depth_cannot_stay():
    heads = SD14 | {"attention_head_dim": [5, 10, 10, 20]}
    with pytest.raises(ValueError, match="mid cannot stay: it has heads 20, and the last stage down.2 has 10"):
        plan({"down": {"3": False}}, heads)
    depth = SD14 | {"transformer_layers_per_block": [1, 1, 2, 1]}
    with pytest.raises(ValueError, match=r"mid cannot stay: it has 1 transformer blocks, not those of down\.2"):
        plan({"down": {"3": False}}, depth)
    assert plan({"down": {"3": False, "2": {"transformer_blocks": [0]}}}, depth).config["mid_block_type"]


def test_a_teacher_without_mid_block():
    bare = SD14 | {"mid_block_type": None}
    assert plan({}, bare).config["mid_block_type"] is None
    assert plan_student(full(bare), preset="bk-base").config["mid_block_type"] is None
    with pytest.raises(ValueError, match="mid must be false: the teacher has none, got True"):
        plan({"mid": True}, bare)


@pytest.mark.parametrize(
    ("name", "config", "sentence"),
    [
        ("bk-huge", SMALL_SD, "there is no preset 'bk-huge'; there are bk-base, bk-small, bk-tiny"),
        ("bk-tiny", TWO_STAGES, "bk-tiny needs at least 3 stages, this UNet has 2"),
        ("bk-tiny", SDXL, r"bk-tiny needs two innermost stages of one width, this UNet's have"),
        ("bk-base", SMALL_SD | {"layers_per_block": 1}, "bk-base needs at least 2 layers in every stage, this"),
    ],
)
def test_impossible_presets(name, config, sentence):
    with pytest.raises(ValueError, match=sentence):
        preset(name, full(config))


def test_blocks_of_another_kind_are_refused():
    config = full(SMALL_SD) | {"down_block_types": ["KDownBlock2D"] * 4}
    with pytest.raises(ValueError, match=r"down\.0 is a KDownBlock2D; only DownBlock2D, "):
        read_map({}, config)
