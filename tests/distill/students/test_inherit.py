"""Students have their teacher's weights."""

from __future__ import annotations

import pytest
import torch

from aria.distill.students import PRESETS, build_student, plan_student

from .unets import SMALL_SD, SMALL_SD2, SMALL_SDXL, TWO_STAGES, full, inputs, teacher_unet, unet

TEACHERS = {"sd": SMALL_SD, "sd2": SMALL_SD2, "sdxl": SMALL_SDXL, "two-stages": TWO_STAGES}


def student_of(config, init="slice", **how):
    teacher = teacher_unet(config)
    plan = plan_student(full(config), **how)
    student, record = build_student(plan, teacher, init=init)
    return teacher, student, plan, record


@pytest.mark.parametrize("config", TEACHERS.values(), ids=TEACHERS)
@torch.no_grad()
def test_a_student_with_nothing_removed_is_its_teacher(config):
    teacher, student, _, record = student_of(config, width=1.0)
    given = inputs(config)
    assert torch.equal(student.eval()(**given).sample, teacher(**given).sample)
    assert not record.sliced and not record.fresh and not record.unused


@pytest.mark.parametrize(
    ("config", "preset"), [*((SMALL_SD, name) for name in PRESETS), (SMALL_SD2, "bk-tiny"), (SMALL_SDXL, "bk-small")]
)
def test_presets_copy_every_tensor_and_train(config, preset):
    teacher, student, plan, record = student_of(config, preset=preset)
    weights = teacher.state_dict()
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, weights[plan.blocks.source(name)])
    assert record.counts() == {"copied": sum(p.numel() for p in student.parameters()), "sliced": 0, "fresh": 0}
    used = {source for source, _ in record.copied.values()}
    assert sorted(used | set(record.unused)) == sorted(weights)
    output = student.train()(**inputs(config, side=16)).sample
    assert output.shape == (2, 4, 16, 16)
    output.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in student.parameters())


def test_teachers_last_layers_are_the_students_second_by_name():
    """The facts of BK-SDM, written out: no function of the package maps the names here."""
    teacher, student, _, _ = student_of(SMALL_SD, preset="bk-tiny")
    old, new = teacher.state_dict(), student.state_dict()
    for k in range(3):
        for part in ("resnets.{}.conv1.weight", "attentions.{}.proj_in.weight"):
            assert torch.equal(new[f"up_blocks.{k}.{part.format(0)}"], old[f"up_blocks.{k + 1}.{part.format(0)}"])
            assert torch.equal(new[f"up_blocks.{k}.{part.format(1)}"], old[f"up_blocks.{k + 1}.{part.format(2)}"])
    for k in range(2):
        upsampler = "up_blocks.{}.upsamplers.0.conv.weight"
        assert torch.equal(new[upsampler.format(k)], old[upsampler.format(k + 1)])
    assert "down_blocks.2.downsamplers.0.conv.weight" not in new
    assert "mid_block.resnets.0.conv1.weight" not in new


@pytest.mark.parametrize("config", TEACHERS.values(), ids=TEACHERS)
def test_a_narrow_student_slices_what_it_cannot_copy_and_trains(config):
    _, student, plan, record = student_of(config, width=0.5)
    assert plan.config["block_out_channels"] == [width // 2 for width in config["block_out_channels"]]
    counts = record.counts()
    assert counts["sliced"] > 0 and counts["fresh"] == 0
    assert sum(counts.values()) == sum(p.numel() for p in student.parameters())
    assert not record.unused
    student.train()(**inputs(config, side=16)).sample.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in student.parameters())


def test_copy_leaves_fresh_what_does_not_match_and_fresh_takes_nothing():
    teacher, student, _, record = student_of(SMALL_SD, "copy", width=0.5)
    assert set(record.copied) == {"conv_out.bias"}
    assert torch.equal(student.conv_out.bias, teacher.conv_out.bias)
    assert not record.sliced
    _, student, _, record = student_of(SMALL_SD, "fresh", preset="bk-base")
    assert record.counts()["fresh"] == sum(p.numel() for p in student.parameters())
    assert len(record.unused) == len(teacher.state_dict())


def test_fresh_weights_follow_from_the_seed_and_leave_the_generator_alone():
    plan, teacher = plan_student(full(SMALL_SD), width=0.5), teacher_unet(SMALL_SD)
    state = torch.get_rng_state()
    students = [build_student(plan, teacher, init="fresh", seed=seed)[0].conv_in.weight for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(students[0], students[1])
    assert not torch.equal(students[0], students[2])


def test_blocks_and_widths_combine():
    _, student, plan, record = student_of(SMALL_SD, preset="bk-small", block_out_channels=[4, 16, 24, 32])
    assert student.config.layers_per_block == 1 and student.config.mid_block_type is None
    counts = record.counts()
    assert counts["copied"] > 0 and counts["sliced"] > 0 and counts["fresh"] == 0
    assert plan.feature_pairs[0] == ("down_blocks.0", "down_blocks.0")


def test_a_shortcut_that_the_teacher_does_not_need_is_sliced_from_the_identity():
    teacher, student, _, record = student_of(SMALL_SD, block_out_channels=[8, 16, 32, 16])
    name = "down_blocks.3.resnets.0.conv_shortcut.weight"
    assert name not in teacher.state_dict()
    assert name in record.sliced and not record.fresh
    weight = student.state_dict()[name].squeeze()  # (16, 32): each of the 16 channels is passed on from one of the 32
    assert weight.sum(1).tolist() == [1] * 16
    assert weight.argmax(1).tolist() == list(range(0, 32, 2))
    assert not student.state_dict()["down_blocks.3.resnets.0.conv_shortcut.bias"].any()


def test_a_half_precision_teacher_has_a_half_precision_student():
    teacher = unet(SMALL_SD).to(torch.bfloat16)
    student, _ = build_student(plan_student(full(SMALL_SD), preset="bk-tiny"), teacher)
    assert {parameter.dtype for parameter in student.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"preset": "bk-base", "block_map": {}}, "give preset or block_map, not both"),
        ({"width": 0.5, "block_out_channels": [4, 8, 16, 16]}, "give width or block_out_channels, not both"),
        ({"width": 1.5}, r"width must lie in \(0, 1\], got 1.5"),
        ({"block_out_channels": [4, 8, 16]}, "one for each of the student's 4 stages"),
        ({"block_out_channels": [4, 8, 16, 15]}, r"block_out_channels\[3\] must be a multiple of 2 up to 32, got 15"),
        ({"block_out_channels": [4, 8, 16, 64]}, r"block_out_channels\[3\] must be a multiple of 2 up to 32, got 64"),
        ({"block_out_channels": [0, 8, 16, 32]}, r"block_out_channels\[0\] must be a whole number of at least 1"),
    ],
)
def test_plans_that_are_refused(how, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan_student(full(SMALL_SD), **how)


def test_unknown_init_is_refused():
    with pytest.raises(ValueError, match="init must be 'slice' or 'copy' or 'fresh', got 'random'"):
        build_student(plan_student(full(SMALL_SD)), teacher_unet(SMALL_SD), init="random")


def test_only_plain_blocks_are_sliced():
    config = SMALL_SD | {"resnet_time_scale_shift": "scale_shift"}
    with pytest.raises(ValueError, match="cannot be sliced where resnet_time_scale_shift is 'scale_shift'"):
        student_of(config, width=0.5)
    student_of(config, "copy", width=0.5)
