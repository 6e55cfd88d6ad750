"""Features by module name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from aria.distill.models.taps import find, taps


class Stage(nn.Module):
    def forward(self, x):
        return x + 1, (x,)


class Wrapped(nn.Module):
    def forward(self, x):
        return SimpleNamespace(sample=x[0] * 2)


def net():
    return nn.Sequential(Stage(), Wrapped())


def test_the_first_of_several_outputs_and_the_sample_of_an_output_object():
    with taps(net(), ["0", "1"]) as seen:
        net_seen = seen
    assert net_seen == {}
    model = net()
    with taps(model, ["0", "1", "0"]) as seen:
        model(torch.ones(2))
    assert seen["0"].tolist() == [2.0, 2.0] and seen["1"].tolist() == [4.0, 4.0]
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_are_gone_after_an_error_too():
    model = net()
    with pytest.raises(RuntimeError, match="on purpose"), taps(model, ["1"]):
        raise RuntimeError("on purpose")
    assert not any(module._forward_hooks for module in model.modules())


def test_for_a_missing_module_the_nearest_name_is_suggested():
    model = nn.ModuleDict({"middle": nn.ModuleDict({"norm": nn.Identity()})})
    assert find(model, "middle.norm") is model["middle"]["norm"]
    with pytest.raises(ValueError, match="ModuleDict has no module 'middle.norn'; did you mean 'middle.norm'"):
        find(model, "middle.norn")
    for name in ("", "zzzz"):
        with pytest.raises(ValueError, match=f"has no module '{name}'; it has: middle"):
            find(model, name)


def test_a_missing_module_leaves_no_hook_behind():
    model = net()
    with pytest.raises(ValueError, match="no module"), taps(model, ["0", "7"]):
        pass
    assert not any(module._forward_hooks for module in model.modules())
