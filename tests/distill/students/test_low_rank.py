"""Low-rank adapters: only they train, and merged they leave a plain model."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import UNet2DConditionModel

from aria.distill.students import add_low_rank, merge

from .unets import TWO_STAGES, full, inputs, unet


@pytest.fixture
def model():
    return unet(TWO_STAGES)


def test_only_adapters_train_and_merging_keeps_the_function(model, tmp_path):
    given, frozen = inputs(TWO_STAGES), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        before = model(**given).sample
        add_low_rank(model, rank=2)
        torch.testing.assert_close(model(**given).sample, before)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained and all(".lora_" in name for name in trained)

    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        model(**given).sample.square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        after = model(**given).sample
        assert not torch.allclose(after, before, atol=1e-4)
        torch.testing.assert_close(merge(model)(**given).sample, after, rtol=1e-4, atol=1e-5)

    weights = model.state_dict()
    assert weights.keys() == frozen.keys()
    changed = {name for name in frozen if not torch.equal(weights[name], frozen[name])}
    assert changed and all(name.endswith((".to_q.weight", ".to_k.weight", ".to_v.weight", ".to_out.0.weight"))
                           for name in changed)  # fmt: skip
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.save_pretrained(tmp_path)
    assert {key for key in json.loads((tmp_path / "config.json").read_text()) if key[0] != "_"} == set(full(TWO_STAGES))
    with torch.no_grad():
        torch.testing.assert_close(UNet2DConditionModel.from_pretrained(tmp_path)(**given).sample, after)


def test_convolutions_can_have_adapters(model):
    given = inputs(TWO_STAGES)
    add_low_rank(model, rank=1, targets=["conv1", "proj_in"], alpha=4)
    model(**given).sample.mean().backward()
    with torch.no_grad():
        after = model(**given).sample
        torch.testing.assert_close(merge(model)(**given).sample, after)


def test_adapters_can_be_added_again_after_merging(model):
    add_low_rank(merge(add_low_rank(model, rank=1)), rank=3)
    assert {p.shape[0] for name, p in model.named_parameters() if "lora_A" in name} == {3}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"rank": 0}, "rank must be a whole number of at least 1, got 0"),
        ({"rank": 2, "targets": ["to_q", "to_x"]}, "no linear layer or convolution of UNet2DCondi.* is called 'to_x'"),
    ],
)
def test_mistakes(model, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        add_low_rank(model, **arguments)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_adapters_are_neither_doubled_nor_merged_where_there_are_none(model):
    with pytest.raises(ValueError, match="has no adapters to merge"):
        merge(model)
    add_low_rank(model, rank=1)
    with pytest.raises(ValueError, match="has adapters already"):
        add_low_rank(model, rank=1)
