"""The claims hold, their mutants die, and whoever breaks one learns of it."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from aria import trackers
from aria.interfaces import Tracker
from aria.trackers import EMA, Window
from theory import claims
from theory.claims import CLAIMS, Check, Mutant, judge
from theory.claims.base import ALARM, Trial
from theory.claims.experiments import Final
from theory.commands.verify import command
from theory.regimes import Linear, Regime
from theory.verdict import powered

QUICK = [claim for claim in CLAIMS if claim.quick]
NAMES = [f"{claim.statement}-{claim.name}-{type(claim.tracker).__name__}" for claim in QUICK]


def named(statement, name, kind):
    (claim,) = (c for c in CLAIMS if (c.statement, c.name) == (statement, name) and type(c.tracker) is kind)
    return claim


LINE = named("T1, T3-O", "line", EMA)
ADVERSARY = named("T3-A", "two-point adversary", EMA)


@functools.cache
def verdict(index):
    return judge(QUICK[index])


@pytest.mark.parametrize("index", range(len(QUICK)), ids=NAMES)
def test_the_claim_holds_and_its_mutants_die(index):
    found = verdict(index)
    assert not found.fallen
    assert not found.names("survived")
    assert found.names("killed"), "nothing makes this claim fall"


def test_most_mutants_can_be_told():
    fates = [mutant.fate for index in range(len(QUICK)) for mutant in verdict(index).mutants]
    assert fates.count("survived") == 0
    assert fates.count("killed") > 20 * fates.count("underpowered")


SHOWN = [claim for claim in QUICK if any(check.sense == "above" for check in claim.checks)]


@pytest.mark.parametrize("claim", SHOWN, ids=lambda claim: claim.name)
def test_what_must_be_shown_is_shown_with_a_margin(claim):
    """Two half-widths, so that chance hides it as rarely as it makes other claims fall."""
    measured = claim.experiment.measure(claim.tracker, claim.regime, Trial(5, ALARM / len(claim.checks)))
    for check in claim.checks:
        band = measured[check.quantity]
        assert check.sense != "above" or powered(max(band.value - check.reference, 0), band.half)


def test_every_tracker_of_the_mean_is_covered():
    """Whoever exports a tracker owes a claim about it."""
    classes = {getattr(trackers, name) for name in trackers.__all__}
    shipped = {kind for kind in classes if issubclass(kind, Tracker) and kind.statistic == "mean"}
    assert shipped == {type(claim.tracker) for claim in QUICK}
    assert any(isinstance(claim.tracker, EMA) and claim.tracker.importance for claim in QUICK)


def test_claims_can_be_told_apart():
    keys = [(claim.statement, claim.name, claim.tracker) for claim in CLAIMS]
    assert len(set(keys)) == len(keys)
    assert all(len({mutant.name for mutant in claim.mutants}) == len(claim.mutants) for claim in CLAIMS)


# ----------------------------------------------------------------------------------------------------- what must fall


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
    assert judge(replace(claim, tracker=tracker)).fallen


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


def test_mutants_are_told_apart_from_noise():
    mutants = (
        Mutant("hair", {("mse", "equal"): 0.2552}),
        Mutant("mile", {("mse", "equal"): 0.5}),
        Mutant("same tracker", tracker=EMA(rate=0.1)),
        Mutant("other tracker", tracker=EMA(rate=1.0)),
    )
    found = judge(small([Check("mse", "equal", 0.25513)], *mutants))
    assert [mutant.fate for mutant in found.mutants] == ["underpowered", "killed", "underpowered", "killed"]


def test_a_mutant_that_a_lax_bound_lets_pass_survives():
    lax = Check("mse", "at most", 9.0)
    found = judge(small([lax], Mutant("half", {("mse", "at most"): 4.5}), Mutant("b·10", tracker=EMA(rate=1.0))))
    assert found.names("survived") == ["half", "b·10"]
    assert not found.fallen and not found.sound


def test_a_mutant_changes_one_thing():
    with pytest.raises(ValueError, match="one of them"):
        Mutant("nothing")
    with pytest.raises(ValueError, match="one of them"):
        Mutant("two things", {("mse", "equal"): 1.0}, EMA())
    with pytest.raises(KeyError):
        judge(small([Check("mse", "equal", 0.25513)], Mutant("not checked", {("bias", "equal"): 0.0})))


def test_a_verdict_is_a_function_of_the_seed():
    first, again, other = judge(LINE, seed=3), judge(LINE, seed=3), judge(LINE, seed=4)
    assert first.ratio == again.ratio != other.ratio


# ---------------------------------------------------------------------------------------------------------- the command


def run(*arguments):
    return CliRunner().invoke(command, arguments)


@pytest.fixture
def table(monkeypatch):
    """Puts other claims into the table."""
    return lambda *chosen: monkeypatch.setattr(claims, "CLAIMS", chosen)


def test_claims_that_hold_exit_with_0(table):
    table(LINE, ADVERSARY)
    found = run()
    assert found.exit_code == 0, found.output
    assert "2 claims, 0 fallen; mutants: 10 killed, 0 survived, 0 underpowered" in found.stdout
    assert "1.0000 ± 0.0000" in found.stdout and "2.124" in found.stdout and "claims" in found.stderr


@pytest.mark.parametrize("tracker", [EMA(rate=0.11), Hasty(rate=0.1)])
def test_a_broken_tracker_exits_with_1(table, tracker):
    table(ADVERSARY, replace(LINE, tracker=tracker))
    found = run()
    assert found.exit_code == 1
    assert "2 claims, 1 fallen" in found.stdout and "FALLS: T1, T3-O, line" in found.stdout


def test_a_mutant_that_survives_exits_with_1(table):
    table(small([Check("mse", "at most", 9.0)], Mutant("half", {("mse", "at most"): 4.5})))
    found = run()
    assert found.exit_code == 1
    assert "SURVIVED: T1, T3-O, line, ema(rate=0.1): half" in found.stdout


def test_quick_leaves_out_what_is_not_quick_and_full_takes_more(table):
    table(LINE, replace(LINE, name="slow", quick=False))
    quick, full = (json.loads(run("--json", option).stdout)["claims"] for option in ("--quick", "--full"))
    assert [row["regime"] for row in quick] == ["line"] and [row["regime"] for row in full] == ["line", "slow"]
    assert full[0]["half_width"] < 0.5 * quick[0]["half_width"]


def test_json_says_all(table):
    table(replace(ADVERSARY, tracker=EMA(rate=0.11)))
    found = run("--json", "--seed", "7")
    assert found.exit_code == 1
    (row,), end = json.loads(found.stdout)["claims"], json.loads(found.stdout)["summary"]
    assert row["tracker"] == "ema(rate=0.11, importance=False, sigma=None)"
    assert not row["holds"] and row["fallen"][0].startswith("mse equal") and row["times_limit"] > 1
    assert (end["fallen"], end["seed"], end["false_alarm"]) == (1, 7, 1e-6)


PLUGIN = """
from dataclasses import dataclass
import torch
from aria.trackers import EMA

@dataclass(frozen=True)
class Mine(EMA):
    rate: float = 0.1

class Broken(EMA):
    def update(self, state, stats):
        raise RuntimeError("no\\nidea")

class Lost(EMA):
    def estimate(self, state):
        return super().estimate(state)._replace(value=state["value"] * float("nan"))
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    return "mine.py"


def test_a_tracker_of_one_s_own_goes_through_every_regime(plugin):
    own, shipped = (json.loads(run("--json", "--tracker", spec).stdout) for spec in (f"{plugin}:Mine", "ema(rate=0.1)"))
    assert own["regimes"] == shipped["regimes"] and len(own["regimes"]) >= 20
    rows = {row["regime"]: row for row in own["regimes"]}
    assert rows["two-point-adversary"]["times_limit"] == pytest.approx(2.124, abs=1e-3)
    assert abs(rows["linear"]["mse"] - 0.2551) < rows["linear"]["half_width"] < 0.02
    assert rows["stationary"]["times_limit"] is None and rows["gaussian-walk"]["times_limit"] is None


def test_the_text_for_a_tracker_of_one_s_own_certifies_nothing():
    found = run("--tracker", "window(size=4)")
    assert found.exit_code == 0
    assert "Measured, not certified" in found.stdout and "two-point-adversary" in found.stdout
    assert "holds" not in found.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--seed", "-1"], "--seed must be a whole number of at least 0, got -1"),
        (["--tracker", "nonsense"], "unknown tracker 'nonsense'"),
        (["--tracker", "ema(rate=2)"], "rate must lie in (0, 1], got 2"),
        (["--tracker", "missing.py:Mine"], "there is no file"),
        (["--tracker", "progress"], "tracker must estimate the mean"),
        (["--tracker", "mine.py:Broken"], "failed in regime stationary: RuntimeError: no idea"),
        (["--tracker", "mine.py:Lost"], "not finite in regime stationary"),
    ],
)
def test_bad_usage_is_one_line_and_exits_with_2(plugin, arguments, message):
    found = run(*arguments)
    assert found.exit_code == 2 and isinstance(found.exception, SystemExit)
    assert message in found.stderr and found.stdout == ""
    assert found.stderr.strip().splitlines()[-1].startswith("Error: ")
