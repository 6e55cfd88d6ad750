"""Every name in a comparison has a description."""

from __future__ import annotations

from dataclasses import asdict, replace

from aria.bench import words
from aria.bench.arms import LOOKAHEAD, STANDARD
from aria.tasks import GROUPS


def test_standard_arms_and_groups_have_words():
    assert list(words.ARMS) == [arm.name for arm in STANDARD]
    assert list(words.GROUPS) == list(GROUPS)
    assert [words.of_arm(asdict(arm)) for arm in STANDARD] == list(words.ARMS.values())
    assert words.of_arm({"name": LOOKAHEAD}) == words.MARK


def test_an_arm_of_ones_own_is_not_taken_for_a_standard_one_of_its_name():
    assert words.of_arm(asdict(replace(STANDARD[0], floor=0.5))) == "an arm of your own: see its settings"
    assert words.of_group("cats") == "the task's own"
