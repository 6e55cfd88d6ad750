"""Tables by group: means, bootstrap intervals, paired changes, and what scorers may return."""

from __future__ import annotations

import re

import numpy
import pytest
import torch

from aria.distill.evaluation import comparison
from aria.distill.evaluation.comparison import by_group, change, check_scores, extremes, interval


def normal(count, mean, seed, scale=1.0):
    return mean + scale * torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_intervals_cover_the_mean_as_often_as_they_say():
    inside = [found.low <= 3.0 <= found.high for seed in range(200) for found in [interval(normal(60, 3.0, seed))]]
    assert 0.9 <= numpy.mean(inside) <= 0.99


def test_an_interval_shrinks_with_the_number_of_prompts():
    few, many = (interval(normal(count, 3.0, 1)) for count in (20, 2000))
    assert (many.high - many.low) < 0.2 * (few.high - few.low)


def test_values_that_are_not_defined_are_left_out():
    found = interval(torch.tensor([1.0, torch.nan, 3.0]))
    assert (found.mean, found.prompts) == (2.0, 2)
    assert interval(torch.tensor([torch.nan])) is None
    single = interval(torch.tensor([2.0, torch.nan]))
    assert (single.mean, single.low, single.high) == (2.0, None, None)


def test_changes_are_paired():
    """Prompts differ much more than students do."""
    theirs = normal(80, 10.0, 2, scale=3.0).abs()
    ours = 0.95 * theirs + normal(80, 0.0, 3, scale=0.05)
    found = change(ours, theirs)
    assert found["low"] < -5 < found["high"] and found["high"] - found["low"] < 1 and found["p"] < 1e-6
    assert change(theirs, theirs) == {"mean": 0.0, "low": 0.0, "high": 0.0, "p": None}


def test_every_student_metric_and_group_has_a_row_and_p_values_are_adjusted_together():
    base = normal(40, 10.0, 5).abs()
    values = {"a": {"gap": base, "x": base}, "b": {"gap": 0.9 * base, "x": base + normal(40, 0.0, 6)}}
    rows = by_group(values, {"all": range(40), "one": [3]})
    assert [(row["student"], row["metric"], row["group"]) for row in rows] == [
        (student, metric, group) for metric in ("gap", "x") for group in ("all", "one") for student in "ab"
    ]
    better = next(row for row in rows if (row["student"], row["metric"], row["group"]) == ("b", "gap", "all"))
    assert better["change"]["mean"] == pytest.approx(-10)
    assert better["change"]["p_adjusted"] == pytest.approx(2 * better["change"]["p"])
    assert rows[0]["change"] is None and rows[2]["low"] is None and rows[2]["prompts"] == 1


def test_few_prompts_have_no_interval_and_no_test():
    few = normal(5, 3.0, 1)
    assert interval(few).low is None and change(few, 2 * few)["p"] is None is change(few, 2 * few)["low"]
    assert change(few, 2 * few)["mean"] == pytest.approx(-50)


def test_changes_from_what_may_be_zero_have_no_interval():
    ours, theirs = torch.tensor([1.0] * 8), torch.tensor([1.0] + [0.0] * 7)
    assert change(ours, theirs)["mean"] == pytest.approx(700) and change(ours, theirs)["low"] is None
    assert change(ours, -theirs) == {"mean": None, "low": None, "high": None, "p": None}


def test_two_scores_of_one_name_and_scores_of_one_student_alone_are_refused():
    values = {"x": torch.ones(3)}
    with pytest.raises(ValueError, match="mine: there is another score called x"):
        comparison.add_scores(values, "mine", {"x": torch.ones(3)}, 3)
    with pytest.raises(ValueError, match="y was given for a or b, but not both"):
        by_group({"a": values, "b": {**values, "y": torch.ones(3)}}, {"all": range(3)})


@pytest.mark.parametrize("scores, complaint", [
    (torch.ones(3), "mine must return scores by name, got Tensor"),
    ({}, "mine must return scores by name, got dict"),
    ({"x": torch.ones(2)}, "mine: x must have the shape (3,), got (2,)"),
    ({"x": [1, 2, 3]}, "mine: x must have the shape (3,), got list"),
    ({"x": torch.full((3,), torch.nan)}, "mine: x has nothing but NaN"),
    ({"x": torch.tensor([1.0, torch.inf, 0.0])}, "mine: x has infinite values"),
    ({"gap": torch.ones(3)}, "mine: gap is the name of the generation gap"),
])  # fmt: skip
def test_scores_of_another_shape_are_refused(scores, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        check_scores("mine", scores, 3)


def test_extremes_do_not_overlap():
    found = extremes(torch.arange(5.0), 3)
    assert sorted(row for rows in found.values() for row in rows) == [0, 2, 4]
    found = extremes(torch.arange(30.0), 3)
    assert found == {"best": [0, 1, 2], "median": [13, 14, 15], "worst": [29, 28, 27]}


def test_weighted_means_ignore_what_is_not_defined():
    assert comparison.weighted_mean(torch.tensor([torch.nan]), torch.ones(1)) is None
