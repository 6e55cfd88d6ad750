"""Whoever breaks a tracker, a reference or a claim learns of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aria.trackers import EMA, Window
from theory.claims import CLAIMS, Check, Mutant, judge
from theory.claims.base import Trial
from theory.claims.experiments import Final
from theory.regimes import Linear, Regime


def named(statement, name, kind):
    (claim,) = (c for c in CLAIMS if (c.statement, c.name) == (statement, name) and type(c.subject) is kind)
    return claim


LINE = named("T1, T3-O", "line", EMA)
ADVERSARY = named("T3-A", "two-point adversary", EMA)


class Hasty(EMA):
    """Says it has one rate and works with another, 10 % higher."""

    def update(self, state, stats):
        return EMA(rate=1.1 * self.rate).update(state, stats)


BROKEN = [
    (LINE, EMA(rate=0.11)),
    (LINE, EMA(rate=0.09)),
    (LINE, Hasty(rate=0.1)),
    (ADVERSARY, Hasty(rate=0.1)),
    (named("T6", "line", Window), Window(size=13)),
]


@pytest.mark.parametrize("claim, tracker", BROKEN)
def test_a_tracker_10_per_cent_off_makes_the_claim_fall(claim, tracker):
    assert judge(replace(claim, subject=tracker)).fallen


@pytest.mark.parametrize("claim", [LINE, ADVERSARY, named("T13", "selective visits", EMA)], ids=lambda c: c.name)
@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_reference_10_per_cent_off_makes_the_claim_fall(claim, factor):
    first, *others = claim.checks
    assert judge(replace(claim, checks=(first._replace(reference=factor * first.reference), *others))).fallen


def test_bias_and_variance_are_checked_apart():
    """Errors that cancel in the mean square."""
    mse, bias, variance = LINE.checks
    shift = 0.03 * variance.reference
    wrong = (mse, bias, variance._replace(reference=variance.reference + shift))
    assert [check.quantity for check in judge(replace(LINE, checks=wrong)).fallen] == ["variance"]
    level = -((bias.reference**2 - shift) ** 0.5)
    wrong = (mse, bias._replace(reference=level), variance)
    assert [check.quantity for check in judge(replace(LINE, checks=wrong)).fallen] == ["bias"]


def small(checks, *mutants):
    """A claim about 2000 replicas on a line: the mean square error is 0.2551."""
    return replace(
        LINE, regime=Regime(Linear(0.05)), experiment=Final(150, 2000), checks=tuple(checks), mutants=tuple(mutants)
    )


def test_mutants_are_distinguished_from_noise():
    mutants = (
        Mutant("hair", {("mse", "equal"): 0.2552}),
        Mutant("mile", {("mse", "equal"): 0.5}),
        Mutant("same tracker", subject=EMA(rate=0.1)),
        Mutant("other tracker", subject=EMA(rate=1.0)),
    )
    found = judge(small([Check("mse", "equal", 0.25513)], *mutants))
    assert [mutant.fate for mutant in found.mutants] == ["underpowered", "killed", "underpowered", "killed"]


def test_a_mutant_that_a_lax_bound_lets_pass_survives():
    lax = Check("mse", "at most", 9.0)
    found = judge(small([lax], Mutant("half", {("mse", "at most"): 4.5}), Mutant("b·10", subject=EMA(rate=1.0))))
    assert found.names("survived") == ["half", "b·10"]
    assert not found.fallen and not found.sound


def test_a_mutant_changes_one_thing():
    with pytest.raises(ValueError, match="exactly one of references"):
        Mutant("nothing")
    with pytest.raises(ValueError, match="exactly one of references"):
        Mutant("two things", {("mse", "equal"): 1.0}, EMA())
    with pytest.raises(KeyError):
        judge(small([Check("mse", "equal", 0.25513)], Mutant("not checked", {("bias", "equal"): 0.0})))


def test_a_verdict_is_a_function_of_the_seed():
    first, again, other = judge(LINE, seed=3), judge(LINE, seed=3), judge(LINE, seed=4)
    assert first.ratio == again.ratio != other.ratio


def test_a_mutant_dies_of_a_small_sample_if_it_can_and_is_pardoned_by_a_whole_one_only():
    tried = []

    class Counted(Final):
        def measure(self, subject, regime, trial):
            tried.append((subject.rate, trial.count(self.replicas)))
            return super().measure(subject, regime, trial)

    far, near = Mutant("far", subject=EMA(rate=1.0)), Mutant("near", subject=EMA(rate=0.1001))
    claim = replace(small([Check("mse", "equal", 0.25513)], far, near), experiment=Counted(150, 8000))
    assert [mutant.fate for mutant in judge(claim).mutants] == ["killed", "underpowered"]
    assert tried == [(0.1, 8000), (1.0, 1000), (0.1001, 1000), (0.1001, 8000)]


def test_a_share_of_few_replicas_is_all_of_them():
    assert Trial(0, 1e-6, scale=1 / 8).count(2) == 2
    assert [Trial(0, 1e-6, scale).count(800) for scale in (1 / 8, 1.0, 6.0)] == [200, 800, 4800]
