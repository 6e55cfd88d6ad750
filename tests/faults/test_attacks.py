"""A few attacks of each kind; ``make attack`` makes thousands."""

from __future__ import annotations

import random

import pytest

from tests.faults import ground
from tests.faults.attacks import ATTACKS
from tests.faults.verdict import CHANGED, CONTROL, HANG, LIMIT, REFUSED, SAME, TRACEBACK, judged
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
    (Ended(2, "", "something else\n"), 1, False, TRACEBACK),
    (Ended(1, "", "Traceback (most recent call last):\nKeyError: 1\n"), 1, False, TRACEBACK),
    (Ended(-9, "", ""), LIMIT, False, HANG),
    (Ended(2, "", "Error: no \x1b[2J\n"), 1, False, CONTROL),
    (Ended(0, "a \u202e b", ""), 1, True, CONTROL),
])  # fmt: skip
def test_what_counts_as_survived(ended, seconds, same, outcome):
    assert judged(ended, seconds, lambda: "" if same else "weights").outcome == outcome
