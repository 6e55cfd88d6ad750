"""The table of a comparison, made from records with known results."""

from __future__ import annotations

import math

import pytest

from aria.bench import table
from aria.bench.words import of_group

GROUPS = ("uniform", "head", "unseen")
FACTOR = {"rc": (1.0, 1.0, 1.0), "good": (0.8, 1.1, 0.5), "oracle": (0.6, 0.9, 0.5)}
"""Every arm's gap over rc's, by group."""


def records(arms=("rc", "good", "oracle"), seeds=(0, 1, 2, 3), wobble=0.01):
    """Gaps that halve from step 10 to 20 and again to 40; seeds differ tenfold, arms by their factor and a wobble."""
    made = []
    for arm in arms:
        for seed in seeds:
            for step, curve in ((10, 4.0), (20, 2.0), (40, 1.0)):
                common = {"arm": arm, "seed": seed, "step": step}
                shaken = 1 + wobble * (-1) ** seed * (arm != "rc")
                for group, factor in zip(GROUPS, FACTOR[arm], strict=True):
                    for metric in ("gap", "x0"):
                        value = 10.0**seed * curve * factor * shaken
                        made.append({**common, "metric": metric, "group": group, "value": value})
                made.append({**common, "metric": "own", "group": "images", "value": curve / FACTOR[arm][0]})
    return made


def rows(**settings):
    return {row["arm"]: row for row in table.rows(records(**settings), GROUPS)}


def test_a_missing_gap_is_named():
    made = records()
    lost = next(r for r in made if (r["arm"], r["seed"], r["step"], r["metric"]) == ("good", 2, 40, "gap"))
    made.remove(lost)
    with pytest.raises(ValueError, match="the arm good has no gap of uniform at the end of seed 2"):
        table.rows(made, GROUPS)


def test_changes_are_of_the_end_and_in_pairs():
    good = rows()["good"]
    assert [good[f"gap.{group}"]["mean"] for group in GROUPS] == pytest.approx([-20, 10, -50])
    error = 0.8 * 1.0 * math.sqrt(4 / 3) / 2  # in %: wobble 1 % of .8, n = 4
    assert good["gap.uniform"]["error"] == pytest.approx(error)
    assert good["own.images"]["mean"] == pytest.approx(25)
    assert good["gap.uniform"]["value"] == pytest.approx(0.8 * (1.01 + 9.9 + 101 + 990) / 4)
    assert good["seeds"] == 4


def test_p_is_adjusted_over_arms_and_groups_together():
    found = rows()
    raw = {(arm, g): found[arm][f"gap.{g}"]["p"] for arm in ("good", "oracle") for g in GROUPS}
    smallest = min(raw, key=raw.__getitem__)
    assert found[smallest[0]][f"gap.{smallest[1]}"]["p_adjusted"] == pytest.approx(6 * raw[smallest])
    assert found["rc"]["gap.uniform"]["p"] is None and found["rc"]["gap.uniform"]["p_adjusted"] is None


def test_steps_until_an_arm_reaches_the_baselines_final_gap():
    """good falls linearly from 1.6 at step 20 to 0.8 at 40 and is at 1 by 35 of 40; the wobble cancels nearly."""
    found = rows(wobble=0.0)
    assert found["good"]["steps"]["uniform"] == pytest.approx(35 / 40)
    assert found["good"]["steps"]["unseen"] == pytest.approx(20 / 40)
    assert found["rc"]["steps"]["uniform"] == pytest.approx(1)
    worse = table.rows([{**r, "value": r["value"] * (2 if r["arm"] == "good" else 1)} for r in records()], GROUPS)
    assert {row["arm"]: row for row in worse}["good"]["steps"]["uniform"] is None


def test_the_share_of_the_oracles_gain():
    found = rows()
    assert found["good"]["of_oracle"] == pytest.approx(0.5)
    assert found["oracle"]["of_oracle"] == pytest.approx(1)
    assert rows(arms=("rc", "good"))["good"]["of_oracle"] is None
    assert rows(wobble=0.9)["good"]["of_oracle"] is None  # the oracle's own gain may be chance


def test_groups_that_get_worse():
    found = rows()
    assert table.who_pays(found["good"], GROUPS) == ["head"]
    assert table.who_pays(found["oracle"], GROUPS) == []
    assert table.who_pays(rows(seeds=(0,))["good"], GROUPS) is None


def test_the_caption_names_the_baseline_the_seeds_the_rows_and_the_columns():
    result = {"baseline": "sqrt-pool", "seeds": [3, 4, 5], "groups": ["uniform", "head", "mine"]}
    result["table"] = [{"arm": name, "of_oracle": None, "of_lookahead": None} for name in ("rc", "sqrt-pool")]
    caption = table.caption(result)
    assert "relative to sqrt-pool (%)" in caption and "3 seeds" in caption and "lower is better" in caption
    assert "oracle" not in caption and "lookahead" not in caption and "own ε error" not in caption
    assert "rows: arms" in caption
    for name in result["groups"]:
        assert f"{name} ({of_group(name)})" in caption
    result["table"][0]["own.images"] = {}
    assert "own ε error" in table.caption(result)


def test_the_caption_explains_the_shares_that_are_shown_and_why_others_are_not():
    result = {"baseline": "rc", "seeds": [0, 1], "groups": ["uniform"]}
    result["table"] = [{"arm": name, "of_oracle": 0.5, "of_lookahead": None} for name in ("rc", "oracle", "lookahead")]
    *_, shown, hidden = table.caption(result).splitlines()
    assert shown == "of oracle: share of its gain over rc"
    assert hidden == "of lookahead: not shown, its gain is not significant"


def test_as_text():
    changes = table.rows(records(), GROUPS)
    head, rc, good, _ = table.text(changes, GROUPS).splitlines()
    assert head.split() == ["arm", "uniform", "head", "unseen", "own", "ε", "error", "steps", "of", "oracle"]
    assert rc.split() == ["rc", "0", "0", "0", "0", "1.00", "0.00"]
    assert good.split()[:4] == ["good", "-20.0±0.5*", "+10.0±0.6*", "-50.0±0.3*"]
    assert "±" not in table.text(table.rows(records(seeds=(0,)), GROUPS), GROUPS)


def test_a_column_of_dashes_is_left_out():
    head, *_ = table.text(table.rows(records(wobble=0.9), GROUPS), GROUPS).splitlines()
    assert head.split()[-1] == "steps"


@pytest.mark.parametrize("change", [-0.0, -0.04, 0.04, 0.0])
def test_what_rounds_to_zero_has_no_sign(change):
    changes = table.rows(records(), GROUPS)
    changes[1]["gap.uniform"]["mean"], changes[1]["of_oracle"] = change, change / 100
    good = table.text(changes, GROUPS).splitlines()[2].split()
    assert good[1] == "0.0±0.5*" and good[-1] == "0.00"
