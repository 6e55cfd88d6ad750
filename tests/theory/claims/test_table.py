"""The claims hold, their mutants are detected, and everything shipped is covered."""

from __future__ import annotations

import pytest

from aria import trackers
from aria.interfaces import Tracker
from aria.trackers import EMA
from theory.claims import CLAIMS, foils, judge
from theory.verdict import powered

QUICK = [claim for claim in CLAIMS if claim.quick]
NAMES = [f"{claim.statement}-{claim.name}-{type(claim.subject).__name__}" for claim in QUICK]


@pytest.mark.parametrize("claim", QUICK, ids=NAMES)
def test_the_claim_holds_and_its_mutants_die(claim):
    """All in one test, as the workers of a run share no verdicts.

    What must be shown is shown with a margin of two half-widths, so that chance hides it as rarely as it makes other
    claims fall.
    """
    found = judge(claim)
    assert not found.fallen
    assert found.mutants, "nothing makes this claim fall"
    assert found.names("killed") == [mutant.name for mutant in claim.mutants]
    for check in claim.checks:
        band = found.measured[check.quantity]
        assert check.sense != "above" or powered(max(band.value - check.reference, 0), band.half)


def test_every_tracker_of_the_mean_is_covered_and_measured_by_the_limit():
    """Whoever exports a tracker owes a claim about it."""
    classes = {getattr(trackers, name) for name in trackers.__all__}
    shipped = {kind for kind in classes if issubclass(kind, Tracker) and kind.statistic in ("mean", "constant")}
    limited = {type(claim.subject) for claim in QUICK if claim.limit is not None}
    assert shipped == limited - {foils.Triangular}
    assert any(isinstance(claim.subject, EMA) and claim.subject.importance for claim in QUICK)


def test_claims_can_be_distinguished():
    keys = [(claim.statement, claim.name, claim.subject) for claim in CLAIMS]
    assert len(set(keys)) == len(keys)
    assert all(len({mutant.name for mutant in claim.mutants}) == len(claim.mutants) for claim in CLAIMS)


def test_every_story_is_in_the_table():
    """Found by itself, in the order of statements."""
    from theory.claims.stories import detector

    assert all(claim in CLAIMS for claim in detector.CLAIMS)
    numbers = [claim.statement for claim in CLAIMS]
    assert numbers.index("T9") < numbers.index("T10") < numbers.index("RICE")
    stated = {number for statement in numbers for number in statement.split(", ")}
    whole = {"T1", "T2", "T4", "T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "T13", "T14", "T15", "T18"}
    parts = {"T3-A", "T3-O", "T6'", "T13'", "T15-lin", *(f"T16-{part}" for part in range(1, 7))}
    assert whole | parts | {"T20", "T21", "T22", "T23", "T24", "PATH-1", "RICE", "detector"} <= stated
