"""Students of the published sizes, from the real configs of their teachers, counted without weights."""

from __future__ import annotations

import pytest

from aria.distill.students import plan_student

from .unets import SD14, SD21, SDXL, full, parameters


def millions(config):
    return round(parameters(config) / 1e6, 1)


@pytest.mark.parametrize(("config", "published"), [(SD14, 859.5), (SDXL, 2567.5)], ids=["sd14", "sdxl"])
def test_teachers(config, published):
    assert millions(config) == published


@pytest.mark.parametrize(("preset", "published"), [("bk-base", 579.4), ("bk-small", 482.4), ("bk-tiny", 323.4)])
def test_block_removed_students(preset, published):
    assert parameters(plan_student(full(SD14), preset=preset).config) / 1e6 == pytest.approx(published, abs=0.06)


@pytest.mark.parametrize(("width", "published"), [(0.8, 553.2), (0.7, 425.3), (0.6, 314.1), (0.5, 219.8)])
def test_narrower_students(width, published):
    assert millions(plan_student(full(SD14), width=width).config) == published


@pytest.mark.parametrize(("depth", "mid", "published"), [(6, True, 1161), (5, False, 783)])
def test_students_of_sdxl_with_fewer_transformer_blocks(depth, mid, published):
    innermost = {"resnets": [0], "transformer_blocks": list(range(depth))}
    spec = {"down": {0: {"resnets": [0]}, 1: {"resnets": [0]}, 2: innermost}, "mid": mid}
    assert round(parameters(plan_student(full(SDXL), block_map=spec).config) / 1e6) == published


def test_presets_fit_stable_diffusion_2():
    assert 580 < millions(plan_student(full(SD21), preset="bk-base").config) < 590  # published as .59 billion
