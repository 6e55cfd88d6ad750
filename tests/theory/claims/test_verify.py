"""``aria-sim verify``: a table of the claims, and exit codes for scripts."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

from aria.allocators import TopFraction
from aria.trackers import EMA
from theory import claims, regimes
from theory.claims import CLAIMS, Check, Mutant
from theory.claims.experiments import Final
from theory.claims.foils import BayesRule
from theory.cli import main
from theory.regimes import Linear, Regime


def named(statement, name, kind):
    (claim,) = (c for c in CLAIMS if (c.statement, c.name) == (statement, name) and type(c.subject) is kind)
    return claim


LINE = named("T1, T3-O", "line", EMA)
ADVERSARY = named("T3-A", "two-point adversary", EMA)


class Hasty(EMA):
    """States one rate and uses another, 10 % higher."""

    def update(self, state, stats):
        return EMA(rate=1.1 * self.rate).update(state, stats)


def small(checks, *mutants):
    """A claim about 2000 replicas on a line: the mean square error is 0.2551."""
    return replace(
        LINE, regime=Regime(Linear(0.05)), experiment=Final(150, 2000), checks=tuple(checks), mutants=tuple(mutants)
    )


def run(*arguments):
    return CliRunner().invoke(main, ["verify", *arguments])


@pytest.fixture
def table(monkeypatch):
    """Replace the claims of the table."""
    return lambda *chosen: monkeypatch.setattr(claims, "CLAIMS", chosen)


def test_claims_that_hold_exit_with_0(table):
    table(LINE, ADVERSARY)
    found = run()
    assert found.exit_code == 0, found.output
    assert "2 claims, 0 fallen; mutants: 10 killed, 0 survived, 0 underpowered" in found.stdout
    assert "1.0000 ± 0.0000" in found.stdout and "2.124" in found.stdout and "claims" in found.stderr


@pytest.mark.parametrize("tracker", [EMA(rate=0.11), Hasty(rate=0.1)])
def test_a_broken_tracker_exits_with_1(table, tracker):
    table(ADVERSARY, replace(LINE, subject=tracker))
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


def test_what_is_shown_is_short(table):
    table(named("T15", "hardest ramp", BayesRule), named("T24", "what the floor costs", TopFraction))
    found = run()
    assert "foil BayesRule(width=" in found.stdout and "top_fraction(fraction=0.25" in found.stdout


@pytest.mark.parametrize("arguments", [(), ("--tracker", "ema")])
def test_help_explains_every_column(arguments, table, monkeypatch):
    table(LINE)
    monkeypatch.setattr(regimes, "NAMED", {"linear": regimes.NAMED["linear"]})
    lines = run(*arguments).stdout.splitlines()
    heads = lines[next(i for i, line in enumerate(lines) if set(line) == {"-", " "}) - 1]
    section = run("--help").stdout.split("\nColumns:\n")[1]
    explained = {re.split(r"  +", line[2:])[0] for line in section.splitlines() if re.match(r"  \S.*  +\S", line)}
    assert set(re.split(r"  +", heads)) <= explained


def test_json_has_everything(table):
    table(replace(ADVERSARY, subject=EMA(rate=0.11)))
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


def test_the_text_for_a_tracker_of_one_s_own_certifies_nothing(monkeypatch):
    monkeypatch.setattr(regimes, "NAMED", {name: regimes.NAMED[name] for name in ("linear", "two-point-adversary")})
    found = run("--tracker", "window(size=4)")
    assert found.exit_code == 0
    assert "Measured, not certified" in found.stdout and "two-point-adversary" in found.stdout
    assert "holds" not in found.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--seed", "-1"], "Invalid value for '--seed': -1 is not in the range x>=0."),
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
