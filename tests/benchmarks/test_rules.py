"""The comparison of candidates: changes are paired by seed, at the end of the runs."""

from __future__ import annotations

import pytest

from benchmarks.rules import CANDIDATES, changes, table


def record(arm, seed, step, value, group="uniform", metric="gap"):
    return {"arm": arm, "seed": seed, "step": step, "metric": metric, "group": group, "value": value}


def test_changes_are_paired_by_seed_and_of_the_last_evaluation():
    found = [record("rc", 0, 10, 2.0), record("rc", 1, 10, 1.0), record("mine", 0, 10, 1.0), record("mine", 1, 10, 0.7)]
    noise = [record("mine", 0, 5, 9.0), record("rc", 0, 5, 1.0), record("mine", 0, 10, 9.0, metric="accuracy")]
    assert changes(found + noise) == {
        "mine": {"uniform": {"mean": pytest.approx(-40.0), "error": pytest.approx(10.0)}}
    }


def test_a_table_has_every_candidate_of_every_row():
    cells = {group: {"mean": -1.25, "error": 0.5} for group in ("uniform", "unseen", "tail")}
    names = [arm.name for arm in CANDIDATES]
    shown = table({"arms": names, "rows": {"unet-v, strong, 1500": dict.fromkeys(names, cells)}}).splitlines()
    assert shown[0] == "| candidate | unet-v: uniform | unet-v: unseen | unet-v: tail |"
    assert shown[2:] == [f"| {name} | −1.2±0.5 | −1.2±0.5 | −1.2±0.5 |" for name in names]
