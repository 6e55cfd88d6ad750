"""A few attacks of each kind; ``make attack`` makes thousands."""

from __future__ import annotations

import random

import pytest

from tests.faults import campaign, ground
from tests.faults.attacks import ATTACKS
from tests.faults.verdict import CHANGED, CONTROL, HANG, LIMIT, REFUSED, SAME, TRACEBACK, UNTOUCHED, judged
from tests.processes import Ended

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = ground.make(tmp_path_factory.mktemp("ground"))
    yield made
    made.forks.close()


@pytest.mark.parametrize("name", ATTACKS)
def test_it_survives(name, place, tmp_path):
    tmp_path.chmod(0o755)
    found = ATTACKS[name](place, random.Random(name), tmp_path)
    assert found.survived, f"{found.outcome}: {found.detail}"


@pytest.mark.parametrize("ended, seconds, same, outcome", [
    (Ended(0, "", ""), 1, True, SAME),
    (Ended(0, "", ""), 1, False, CHANGED),
    (Ended(2, "", "Error: no such thing\n"), 1, False, REFUSED),
    (Ended(2, "", "steps: 3 of 6 (50 %), 1 s so far\nError: no such thing\n"), 1, False, REFUSED),
    (Ended(2, "", "something else\n"), 1, False, TRACEBACK),
    (Ended(2, "", "something else\nError: no such thing\n"), 1, False, TRACEBACK),
    (Ended(1, "", "Error: no such thing\n"), 1, False, TRACEBACK),
    (Ended(-11, "", "Error: no such thing\n"), 1, False, TRACEBACK),
    (Ended(1, "no", ""), 1, False, TRACEBACK),
    (Ended(143, "", "stopped at step 1 of 6; run the same command to resume\n"), 1, False, TRACEBACK),
    (Ended(1, "", "Traceback (most recent call last):\nKeyError: 1\n"), 1, False, TRACEBACK),
    (Ended(-9, "", ""), LIMIT, False, HANG),
    (Ended(2, "", "Error: no \x1b[2J\n"), 1, False, CONTROL),
    (Ended(0, "a \u202e b", ""), 1, True, CONTROL),
])  # fmt: skip
def test_what_counts_as_survived(ended, seconds, same, outcome):
    assert judged(ended, seconds, lambda: "" if same else "weights").outcome == outcome


def test_commands_that_judge_or_are_stopped_may_end_otherwise():
    assert judged(Ended(1, "no", ""), 1, str, judges=True).outcome == REFUSED
    assert judged(Ended(1, "", "Error: no such thing\n"), 1, str, judges=True).outcome == TRACEBACK
    stopped = Ended(143, "", "stopped at step 1 of 6; run the same command to resume\n")
    for ended in (stopped, Ended(-9, "", ""), Ended(-15, "", "")):
        assert judged(ended, 1, str, signalled=True).outcome == REFUSED


def test_kinds_that_show_nothing_are_named():
    kind = "a full disk"
    rows = [{"attack": kind, "outcome": SAME, "detail": UNTOUCHED}] * 7 + [
        {"attack": kind, "outcome": REFUSED, "detail": ""}
    ]
    assert campaign.trivial(rows) == [kind] and campaign.trivial(rows[:7]) == []
    assert campaign.trivial([*rows, {"attack": kind, "outcome": SAME, "detail": ""}]) == []


def test_memory_is_limited(place):
    def large():
        bytearray(2 * ground.MEMORY)

    assert "MemoryError" in place.forks.of(large).stderr
