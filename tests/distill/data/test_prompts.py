"""Prompts in memory: texts keep their bytes, columns their values."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aria.distill.data.prompts import Column, Prompts, Texts


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=20), st.integers(-25, 25))
def test_texts_are_a_sequence(written, cut):
    texts = Texts.of(written)
    assert list(texts) == written and len(texts) == len(written)
    assert texts[cut:] == written[cut:] and texts[:cut:2] == written[:cut:2]
    assert [texts[i] for i in range(-len(written), 0)] == written
    assert texts.starts_with(Texts.of(written[:cut]))
    with pytest.raises(IndexError):
        texts[len(written)]


def test_a_file_with_another_beginning_is_noticed():
    texts = Texts.of(["ab", "c"])
    assert not texts.starts_with(Texts.of(["a", "bc"]))
    assert not texts.starts_with(Texts.of(["ab", "d"]))
    assert not texts.starts_with(Texts.of(["ab", "c", "d"]))


def test_columns_keep_values_apart_that_python_calls_equal():
    values = [1, 1.0, True, None, "1", 1]
    column = Column.of(values)
    assert [(type(v), v) for v in column] == [(type(v), v) for v in values]
    assert column[1:3] == [1.0, True] and column[-1] == 1


def test_captions_join_the_pool():
    prompts = Prompts(Texts.of(["a", "b", "a"]), {"x": Column.of([1, 2, 3])}, torch.tensor([1.0, 2.0, 3.0]).double())
    joined, index = prompts.joined(["c", "a", "c", "d"])
    assert list(joined.texts) == ["a", "b", "a", "c", "d"]
    assert index.tolist() == [3, 0, 3, 4]
    assert list(joined.columns["x"]) == [1, 2, 3, None, None]
    assert joined.weight.tolist() == [1.0, 2.0, 3.0, 2.0, 2.0]
    same, index = prompts.joined(["b"])
    assert same is prompts and index.tolist() == [1]


def test_more_columns():
    prompts = Prompts(Texts.of(["0", "7"]), {"kind": Column.of(["fish", "bird"])})
    more = prompts.with_columns({"label": ["tench", "cock"], "kind": [None, "x"]})
    assert list(more.columns["label"]) == ["tench", "cock"] and list(more.columns["kind"]) == [None, "x"]
    assert list(prompts.columns) == ["kind"] and prompts.with_columns({}).columns == prompts.columns
