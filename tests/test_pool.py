"""The pool: what it accepts, and what it refuses by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import aria


def test_every_part_can_tell_the_size():
    for parts in ({"texts": ["a"] * 3}, {"columns": {"x": (1, 2, 3)}}, {"weight": [1, 1, 2]}, {"size": 3}):
        assert len(aria.Pool(**parts)) == 3
    assert len(aria.Pool(embeddings=np.zeros((3, 2)), texts=["a"] * 3)) == 3


def test_weights_of_any_kind_become_float64():
    for weight in ([1, 2], np.array([1, 2], dtype=np.int32), torch.tensor([1.0, 2.0])):
        assert aria.Pool(weight=weight).weight.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({}, r"an empty Pool\(\): give embeddings, columns, texts, weight or size"),
        ({"texts": []}, "the pool is empty: it needs at least one condition"),
        ({"size": 0}, "the pool is empty"),
        ({"texts": ["a"], "size": 2}, r"must agree on its size, got \{'texts': 1, 'size': 2\}"),
        ({"columns": {"x": [1], "y": [1, 2]}}, r"got \{\"column 'x'\": 1, \"column 'y'\": 2\}"),
        ({"embeddings": np.zeros(4)}, r"embeddings must have shape \(N, D\), got \(4,\)"),
        ({"weight": [1.0, -1.0]}, r"weight must be \(N,\), finite and non-negative with a positive sum"),
        ({"weight": [0.0, 0.0]}, "with a positive sum"),
        ({"weight": [1.0, math.nan]}, "finite and non-negative"),
    ],
)
def test_bad_pools_are_named(parts, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        aria.Pool(**parts)
    assert "\n" not in str(caught.value)


def test_a_missing_column_is_refused_with_the_existing_ones():
    with pytest.raises(ValueError, match="the pool has no column 'styl'; it has: animal, style"):
        aria.Pool(columns={"style": [1], "animal": [2]}).column("styl")
