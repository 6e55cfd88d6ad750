"""Labels: sorted, stable, and refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aria.partitioners import Labels
from aria.pool import Pool

labels = st.one_of(st.integers(-5, 5), st.text(max_size=3), st.booleans(), st.none(), st.floats(-2, 2))


@given(st.lists(labels, min_size=1, max_size=25), st.randoms(use_true_random=False))
def test_regions_do_not_depend_on_the_order_of_the_pool(column: list[object], random: object) -> None:
    order = list(range(len(column)))
    random.shuffle(order)  # type: ignore[attr-defined]
    first = Labels().fit(Pool(columns={"label": column}))
    second = Labels().fit(Pool(columns={"label": [column[i] for i in order]}))
    assert first.values == second.values
    torch.testing.assert_close(first.mass, second.mass)
    assert torch.equal(first.locate(torch.tensor(order)), second.locate(torch.arange(len(column))))
    assert json.loads(json.dumps(first.state_dict()[0]["values"])) == list(first.values)


@given(st.lists(labels, min_size=1, max_size=25))
def test_conditions_share_a_region_when_they_share_a_label(column: list[object]) -> None:
    region = Labels().fit(Pool(columns={"label": column})).locate(torch.arange(len(column))).tolist()
    for i, a in enumerate(column):
        for j, b in enumerate(column):
            assert (region[i] == region[j]) == (type(a) is type(b) and a == b)


def test_numbers_from_arrays_and_tensors_are_plain_numbers() -> None:
    for column in (np.array([3, 1, 3]), torch.tensor([3, 1, 3]), [np.int64(3), 1, torch.tensor(3)]):
        partition = Labels().fit(Pool(columns={"label": column}))
        assert partition.values == (1, 3) and partition.mass.tolist() == [1 / 3, 2 / 3]


def test_new_prompts_go_to_the_region_of_their_label(pool: Pool) -> None:
    partition = Labels("style").fit(pool)
    assert partition.values == ("3d", "ink", "oil", "photo")
    assert partition.assign(Pool(columns={"style": ["photo", "3d"]})).tolist() == [3, 0]


def test_an_unknown_label_is_named_with_known_ones() -> None:
    partition = Labels().fit(Pool(columns={"label": list(range(9))}))
    with pytest.raises(ValueError, match=r"unknown label 12; known: 0, 1, 2, 3, 4, …"):
        partition.assign(Pool(columns={"label": [3, 12]}))
    with pytest.raises(ValueError, match=r"unknown label '3'"):
        partition.assign(Pool(columns={"label": ["3"]}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), (1, 2), b"x"])
def test_what_json_cannot_hold_is_no_label(value: object) -> None:
    with pytest.raises(ValueError, match=r"a label is text, a finite number or None; column 'label' has .* in row 1"):
        Labels().fit(Pool(columns={"label": ["a", value]}))


def test_the_error_for_a_missing_column_lists_those_that_exist(pool: Pool) -> None:
    with pytest.raises(ValueError, match="no column 'stile'; it has: label, style"):
        Labels("stile").fit(pool)


@pytest.mark.parametrize("column", ["", 3])
def test_a_column_is_a_name(column: object) -> None:
    with pytest.raises(ValueError, match="labels: column must be the name of a column"):
        Labels(column)  # type: ignore[arg-type]
