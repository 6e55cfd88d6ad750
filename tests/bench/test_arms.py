"""Arms as users write them."""

from __future__ import annotations

import pytest

from aria.bench import aria_arm
from aria.bench.arms import STANDARD, Arm, arm


def test_an_allocators_spec_is_an_arm_of_that_name():
    assert arm("ucb(scale=2)") == Arm("ucb(scale=2)", "ucb(scale=2)")


def test_settings_are_read_by_name():
    parsed = arm("mine: allocator=softmax(temperature=0.5); tracker=ema(rate=0.2); floor=0.1; by_condition=true;"
               "partitioner=labels('group'); replacement=constant(0.5); weighting=min_snr")  # fmt: skip
    assert parsed == Arm("mine", "softmax(temperature=0.5)", "ema(rate=0.2)", "labels('group')", True, 0.1,
                       "constant(0.5)", "min_snr")  # fmt: skip


@pytest.mark.parametrize("standard", STANDARD, ids=lambda each: each.name)
def test_standard_arms_by_name(standard):
    assert arm(f" {standard.name} ") is standard


def test_the_arm_aria_is_what_aria_distill_does_except_for_what_is_explained():
    """A new default there is one here; a third difference would have to be explained first."""
    from aria.distill.settings.config import Config

    config = Config()
    aria = arm("aria")
    assert (aria.allocator, aria.tracker) == (config.allocation.allocator, config.allocation.tracker)
    assert (aria.floor, aria.on_policy) == (config.allocation.floor, config.conditioning.on_policy)
    assert aria.replacement == config.conditioning.replacement
    assert (aria.by_condition, aria.weighting) == (True, "velocity") and config.loss.weighting == "uniform"
    assert "weight" in aria_arm.DIFFERENCES and "velocity" in aria_arm.DIFFERENCES


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sofmax", r"unknown allocator 'sofmax' \(did you mean 'softmax'\?\)"),
        ("mine: alocator=pool", r"arm 'mine': cannot read 'alocator=pool' \(did you mean 'allocator'\?\): write "),
        ("mine: floor", "arm 'mine': cannot read 'floor': write "),
        ("mine: floor=2", r"arm 'mine': floor must lie in \[0, 1\], got 2.0"),
        ("mine: floor=low", r"arm 'mine': floor must lie in \[0, 1\], got 'low'"),
        ("mine: by_condition=yes", "by_condition must be 'true' or 'false', got 'yes'"),
        ("mine: tracker=emma", "arm 'mine': unknown tracker 'emma'"),
        ("mine: partitioner=label('x')", "unknown partitioner 'label'"),
        ("mine: replacement=konstant", "unknown replacement 'konstant'"),
        ("mine: weighting=snr", "unknown weighting 'snr'"),
        ("mine: allocator=oracle; on_policy=0.5", "it takes no on_policy rows"),
        ("mine: on_policy=2", r"on_policy must lie in \[0, 1\], got 2"),
        ("nowhere.py:Greedy", "there is no file 'nowhere.py'"),
        ("", "cannot read the allocator spec ''"),
    ],
)
def test_mistakes_are_named(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        arm(text)
