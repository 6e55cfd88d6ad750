"""Slices fit together: a wide UNet made of repeated narrow channels gives its narrow UNet back.

Repeat every channel of a narrow UNet within its part of each axis, and share the weights that read a channel among
its copies: norms, heads and gates see the same statistics, so the wide UNet computes the same function. That holds
only if the parts of all axes fit together, and then the slice is the narrow UNet, up to what was shared.
"""

from __future__ import annotations

import pytest
import torch

from aria.distill.students.unet.slices import UNetSlicer

from .unets import SMALL_SD, SMALL_SD2, SMALL_SDXL, full, inputs, unet

CASES = {
    "sd": (SMALL_SD, {"block_out_channels": [16, 32, 64, 64]}),
    "sd2": (SMALL_SD2, {"block_out_channels": [24, 48, 96, 96], "attention_head_dim": [6, 12, 24, 24]}),
    "sdxl": (SMALL_SDXL, {"block_out_channels": [16, 32, 64], "attention_head_dim": [4, 8, 16]}),
}


def repeated(slicer, name, tensor, shape):
    """The narrow ``tensor`` in the ``shape`` of the wide UNet."""
    for axis, wide in enumerate(shape):
        narrow = tensor.shape[axis]
        if wide == narrow:
            continue
        pieces = []
        runs = slicer.runs(name, axis, wide, narrow)
        for run, piece in zip(runs, tensor.split([run.narrow for run in runs], axis)):
            copies = run.wide // run.narrow
            for part in piece.chunk(run.parts, axis):
                if name == "time_embedding.linear_1.weight" and axis == 1:  # its sinusoid is there among others
                    pieces += [part] + [torch.zeros_like(part)] * (copies - 1)
                else:
                    pieces += [part / copies if axis == 1 else part] * copies  # axis 1 is what a weight reads
        tensor = torch.cat(pieces, axis)
    return tensor


def temper(slicer, name, tensor, shape):
    """Wider heads divide their scores by the square root of their width: undo it."""
    if name.endswith("to_q.weight") and not slicer.fewer_heads:
        return tensor * (shape[0] / tensor.shape[0]) ** 0.5
    return tensor


@pytest.fixture(params=CASES.values(), ids=CASES)
def pair(request):
    config, changes = request.param
    narrow, wide = full(config), full(config | changes)
    return UNetSlicer.between(wide, narrow), unet(narrow), unet(wide)


@torch.no_grad()
def widened(slicer, small, large):
    small_state = small.state_dict()
    state = {
        name: temper(slicer, name, repeated(slicer, name, small_state[name], tensor.shape), small_state[name].shape)
        for name, tensor in large.state_dict().items()
    }
    large.load_state_dict(state)
    return large


@torch.no_grad()
def test_the_wide_unet_of_repeated_channels_computes_the_same(pair):
    _, small, large = pair
    given = inputs(small.config)
    before = large(**given).sample
    torch.testing.assert_close(widened(*pair)(**given).sample, small(**given).sample, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(before, small(**given).sample, atol=1e-1)


@torch.no_grad()
def test_its_slice_is_the_narrow_unet(pair):
    slicer, small, _ = pair
    state = widened(*pair).state_dict()
    for name, tensor in small.state_dict().items():
        cut = slicer(name, state[name], tensor.shape)
        scale = (tensor * cut).sum() / (cut * cut).sum()
        torch.testing.assert_close(cut * scale, tensor, rtol=1e-4, atol=1e-5)


def test_parts_written_out():
    wide, narrow = full(SMALL_SD), full(SMALL_SD | {"block_out_channels": [6, 12, 24, 24]})
    slicer, rows = UNetSlicer.between(wide, narrow), torch.arange(8.0)
    assert slicer("conv_norm_out.weight", rows, (6,)).tolist() == [0, 1, 2, 4, 5, 6]  # two groups of four
    heads = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight"
    assert slicer(heads, rows[:, None], (6, 1)).flatten().tolist() == [0, 1, 2, 4, 5, 6]  # two heads of four
    skip = "up_blocks.3.resnets.0.norm1.weight"  # 16 channels from below and 8 over the skip connection
    expected = [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20, 21, 22]
    assert slicer(skip, torch.arange(24.0), (18,)).tolist() == expected


def test_what_comes_from_below_and_over_the_skip_connection_is_cut_apart():
    slicer = UNetSlicer.between(full(SMALL_SD), full(SMALL_SD | {"block_out_channels": [8, 8, 32, 32]}))
    rows = torch.arange(24.0)  # 16 channels from below become 8; the 8 over the skip connection stay
    assert slicer("up_blocks.3.resnets.0.norm1.weight", rows, (16,)).tolist() == [*range(0, 16, 2), *range(16, 24)]


def test_fewer_heads_stay_whole():
    narrow = SMALL_SD2 | {"block_out_channels": [8, 12, 32, 32], "attention_head_dim": [2, 3, 8, 8]}
    slicer = UNetSlicer.between(full(SMALL_SD2), full(narrow))
    heads = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k.weight"
    assert slicer(heads, torch.arange(16.0)[:, None], (12, 1)).flatten().tolist() == list(range(12))
    out = heads.replace("to_k", "to_out.0")
    assert slicer(out, torch.arange(16.0)[None], (1, 12)).flatten().tolist() == list(range(12))
