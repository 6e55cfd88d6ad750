"""The moving average in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aria.distill.engine.moving_average import MovingAverage


def test_it_is_the_recursion():
    layer, decays = nn.Linear(2, 1, bias=False), [0.1, 2 / 11, 0.25, 0.3]
    average, expected = MovingAverage(layer, decay=0.3), layer.weight.detach().clone()
    for step, decay in enumerate(decays):
        layer.weight.data += 1 + step
        average.update(layer)
        expected = decay * expected + (1 - decay) * layer.weight.detach()
        if step < 2:
            assert decay == pytest.approx((1 + step) / (10 + step))
    torch.testing.assert_close(average.weights["weight"], expected, rtol=1e-6, atol=1e-6)
    assert average.steps == 4


def test_only_what_trains_is_averaged_in_float32():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).bfloat16()
    net[0].requires_grad_(False)
    average = MovingAverage(net)
    assert set(average.weights) == {"1.weight", "1.bias"}
    assert {value.dtype for value in average.weights.values()} == {torch.float32}


def test_the_models_own_weights_are_back_after_an_error_too():
    layer = nn.Linear(1, 1)
    average, own = MovingAverage(layer), layer.weight.detach().clone()
    average.weights["weight"].fill_(7.0)

    def look():
        with average.in_place_of(layer):
            assert layer.weight.item() == 7.0
            raise RuntimeError

    with pytest.raises(RuntimeError):
        look()
    assert torch.equal(layer.weight.detach(), own) and layer.weight.requires_grad


def test_refusals():
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\], got 1.5"):
        MovingAverage(nn.Linear(1, 1), decay=1.5)
