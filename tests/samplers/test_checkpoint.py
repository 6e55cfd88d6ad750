"""Settings saved with the tensors: in any order, and all of them compared when resuming."""

from __future__ import annotations

import pytest
import torch

from aria.samplers import checkpoint

TENSORS = {"mass": torch.ones(2), "counters": torch.tensor([0, 0, 0])}


def test_the_order_of_settings_leaves_no_trace():
    one, other = (checkpoint.pack(settings, TENSORS) for settings in ({"a": 1, "b": 2}, {"b": 2, "a": 1}))
    assert torch.equal(one[checkpoint.SETTINGS], other[checkpoint.SETTINGS])


@pytest.mark.parametrize(
    ("saved", "own", "sentence"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, "saved with b=2, this sampler has None"),
        ({"a": 1}, {"a": 1, "b": 2}, "saved with b=None, this sampler has 2"),
        ({"partition": "x"}, {"partition": "y"}, "saved with another partition: keep it with"),
    ],
)
def test_a_setting_more_or_less_or_other_is_refused(saved, own, sentence):
    with pytest.raises(ValueError, match=sentence):
        checkpoint.unpack(checkpoint.pack(saved, TENSORS), own, TENSORS)


def test_counters_begin_at_nought_and_mass_counts():
    state = checkpoint.pack({}, TENSORS)
    assert checkpoint.unpack(state, {}, TENSORS).keys() == TENSORS.keys()
    with pytest.raises(ValueError, match=r"the state counts \[0, -1, 0\] steps, updates and batches: none can be "):
        checkpoint.unpack(state | {"counters": torch.tensor([0, -1, 0])}, {}, TENSORS)
    with pytest.raises(ValueError, match="saved with another target mass"):
        checkpoint.unpack(state | {"mass": torch.tensor([1.0, 2.0])}, {}, TENSORS)


def test_tensors_are_sorted_out_by_the_beginning_of_their_names():
    one, two = torch.ones(1), torch.zeros(1)
    assert checkpoint.under("a.", {"a.x": one, "b.x": two}) == {"x": one}
