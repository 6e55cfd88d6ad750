"""Parameters and multiply-adds, against another way of counting."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aria.distill.students import count_macs, example_inputs, plan_student, size

from .unets import SD14, SMALL_SD, SMALL_SDXL, TWO_STAGES, full, teacher_unet


@pytest.mark.parametrize("config", [TWO_STAGES, SMALL_SDXL], ids=["two-stages", "sdxl"])
def test_multiply_adds_are_half_of_what_torch_counts_as_operations(config):
    model = teacher_unet(config)
    inputs = example_inputs(full(config), batch=2)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(**inputs)  # with attention as plain matrix products, all of which that mode counts
    assert 2 * count_macs(model, **inputs) == counter.get_total_flops()
    assert 2 * size(full(config)).macs * 2 == counter.get_total_flops()  # on the meta device, one sample of the two


def test_larger_latents_and_longer_contexts_cost_more():
    config = full(TWO_STAGES)
    assert 4 * size(config).macs < size(config, side=16).macs
    assert size(config).macs < size(config, tokens=78).macs


def test_formula_by_hand():
    layers = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.Flatten(2), nn.Linear(25, 7))
    convolution = (3 * 6 * 5 * 5) * (4 // 2) * 3 * 3
    linear = (3 * 6 * 7) * 25
    assert count_macs(layers, input=torch.zeros(3, 4, 5, 5)) == convolution + linear
    assert not any(layer._forward_hooks for layer in layers)


@pytest.mark.parametrize(("preset", "published"), [(None, 339), ("bk-base", 224), ("bk-small", 218), ("bk-tiny", 205)])
def test_published_multiply_adds_of_stable_diffusion_and_its_students(preset, published):
    found = size(plan_student(full(SD14), preset=preset).config, attention=False)
    assert round(found.macs / 1e9) == published


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"addition_embed_type": "image"}, "counted for addition_embed_type None or text_time, not 'image'"),
        ({"encoder_hid_dim_type": "image_proj"}, "encoder_hid_dim_type None or text_proj, not 'image_proj'"),
        ({"num_class_embeds": 10}, "not counted for a UNet with class embeddings"),
    ],
)
def test_unknown_inputs_are_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        example_inputs(full(SMALL_SD) | change)
