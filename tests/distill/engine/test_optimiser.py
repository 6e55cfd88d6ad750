"""The optimiser's settings and its state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aria.distill.engine.optimiser import adamw, load_state_tensors, state_tensors
from aria.distill.settings.config import AdamW


def trained(steps, layer=None, optimizer=None):
    torch.manual_seed(0)
    layer = layer or nn.Linear(3, 2)
    optimizer = optimizer or adamw(AdamW(learning_rate=0.1), layer.parameters())
    for _ in range(steps):
        layer(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return layer, optimizer


def test_the_optimiser_state_survives_saving_and_loading():
    layer, optimizer = trained(3)
    saved = {name: value.clone() for name, value in state_tensors(optimizer).items()}
    assert set(saved) == {f"{place}.{name}" for place in (0, 1) for name in ("step", "exp_avg", "exp_avg_sq")}
    again = nn.Linear(3, 2)
    again.load_state_dict(layer.state_dict())
    other = adamw(AdamW(learning_rate=0.1), again.parameters())
    load_state_tensors(other, saved)
    trained(2, layer, optimizer), trained(2, again, other)
    assert torch.equal(layer.weight, again.weight)


def test_a_step_marked_bad_changes_nothing():
    layer, optimizer = trained(1)
    before, memory = layer.weight.detach().clone(), state_tensors(optimizer)["0.exp_avg"].clone()
    optimizer.found_inf = torch.tensor(1.0)
    layer(torch.full((1, 3), torch.nan)).sum().backward()
    optimizer.step()
    assert torch.equal(layer.weight.detach(), before) and torch.equal(state_tensors(optimizer)["0.exp_avg"], memory)
    assert float(state_tensors(optimizer)["0.step"]) == 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"adam_beta1": 1.0}, "adam_beta1 must lie in"),
        ({"adam_beta2": -0.1}, "adam_beta2 must lie in"),
        ({"adam_weight_decay": -1.0}, "adam_weight_decay must be non-negative"),
        ({"adam_epsilon": 0.0}, "adam_epsilon must be positive"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be positive"),
        ({"lr_scheduler": "piecewise_constant"}, "lr_scheduler must be 'linear'"),
        ({"lr_warmup_steps": -1}, "lr_warmup_steps must be"),
    ],
)
def test_refusals(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        AdamW(**settings)
    AdamW(adam_beta1=0.0)
