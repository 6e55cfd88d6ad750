"""The statistics, compared with SciPy and with results by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aria.bench import statistics
from aria.significance import holm

positive = st.floats(0.1, 10)


@pytest.mark.parametrize("seeds", [2, 5, 30])
def test_p_is_scipys_paired_test_on_logarithms(seeds):
    from scipy.stats import ttest_rel

    generator = np.random.default_rng(seeds)
    baseline = generator.uniform(1, 3, seeds)
    treated = baseline * generator.uniform(0.8, 1.1, seeds)
    found = statistics.change(treated.tolist(), baseline.tolist())
    assert found.p == pytest.approx(ttest_rel(np.log(treated), np.log(baseline)).pvalue, rel=1e-9)
    relative = 100 * (treated / baseline - 1)
    assert found.mean == pytest.approx(relative.mean())
    assert found.error == pytest.approx(relative.std(ddof=1) / math.sqrt(seeds))
    assert found.seeds == seeds


@given(st.lists(st.tuples(positive, positive), min_size=2, max_size=8))
def test_p_does_not_depend_on_who_is_the_baseline(pairs):
    treated, baseline = ([pair[side] for pair in pairs] for side in (0, 1))
    forth, back = statistics.change(treated, baseline).p, statistics.change(baseline, treated).p
    assert forth == pytest.approx(back, rel=1e-6) and 0 <= forth <= 1


def test_one_seed_has_no_error_and_no_p():
    found = statistics.change([1.1], [1.0])
    assert found.mean == pytest.approx(10) and math.isnan(found.error) and math.isnan(found.p)


def test_equal_runs_are_no_finding():
    found = statistics.change([1.0, 2.0], [1.0, 2.0])
    assert (found.mean, found.error, found.p) == (0, 0, 1)


def test_unpaired_values_are_refused():
    with pytest.raises(ValueError, match="needs as many values on both sides, got 1 and 2"):
        statistics.change([1.0], [1.0, 2.0])


def test_holm_by_hand():
    """Sorted .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04; none may be below the one before it."""
    p = {"d": 0.04, "a": 0.01, "c": 0.03, "b": 0.02}
    wanted = {"a": 0.04, "b": 0.06, "c": 0.06, "d": 0.06}
    assert holm(p) == pytest.approx(wanted)
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert math.isnan(holm({"a": math.nan, "b": 0.5})["a"])
    assert holm({"a": math.nan, "b": 0.5})["b"] == 0.5  # what is unknown is not counted


@given(st.dictionaries(st.integers(), st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_never_lowers(p):
    adjusted = holm(p)
    assert all(p[key] <= adjusted[key] <= 1 for key in p)
    order = sorted(p, key=p.__getitem__)
    assert all(adjusted[a] <= adjusted[b] for a, b in pairwise(order))


@pytest.mark.parametrize(
    ("values", "level", "step"),
    [
        ([4.0, 2.0, 1.0], 3.0, 15.0),
        ([4.0, 2.0, 1.0], 2.0, 20.0),
        ([4.0, 2.0, 1.0], 5.0, 10.0),  # before the first examination nothing is known
        ([4.0, 2.0, 3.0], 2.5, 17.5),  # the first time counts
        ([4.0, 4.0, 4.0], 4.0, 10.0),
    ],
)
def test_reach(values, level, step):
    assert statistics.reach([10, 20, 30], values, level) == pytest.approx(step)


def test_what_is_never_reached():
    assert math.isnan(statistics.reach([10, 20], [4.0, 2.0], 1.0))
