"""Partition files that claim more than they hold, or tables that do not fit one another."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import save

from aria import partitioners
from aria.partitioners import io
from aria.pool import Pool

EDGES = torch.arange(2049, dtype=torch.float64)
POOL = Pool(columns={"label": [0, 1, 2] * 8}, embeddings=torch.arange(24.0)[:, None])
BINS = {"kind": "bins", "members": {"size": 24, "rows": 1}, "coordinate": "x", "integer": False}


def refused(tmp_path, settings, tensors):
    path = tmp_path / "p.safetensors"
    digest = io._digest(settings, tensors)
    metadata = {"format": io.FORMAT, "settings": json.dumps(settings), "digest": digest}
    path.write_bytes(save({name: value.clone() for name, value in tensors.items()}, metadata))
    with pytest.raises(ValueError, match=r"^[^\n]+\Z") as caught:
        partitioners.load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("size", [3 * 10**9, 2**31 - 1, 10**30])
def test_conditions_that_are_not_in_the_file_are_not_allocated(size, tmp_path):
    for settings, tensors in (({"kind": "oneregion"}, {}), (BINS, {"edges": EDGES})):
        line = refused(tmp_path, settings | {"members": {"size": size, "rows": 1}}, tensors)
        assert f"it lists none of its {size} conditions" in line


@pytest.mark.parametrize("rows", [3 * 10**9, 10**30])
def test_rows_that_are_not_in_the_file_are_not_allocated(rows, tmp_path):
    settings = {"kind": "labels", "members": {"size": 3, "rows": rows}, "column": "a", "values": [1, 2, 3]}
    row = {"members.row": torch.tensor([0, 1, 2], dtype=torch.int32)}
    assert f"{rows} rows are too many for 3 conditions" in refused(tmp_path, settings, row)


def test_a_product_of_small_parts_is_not_allocated(tmp_path):
    settings = {"kind": "product", "first": BINS, "second": BINS | {"coordinate": "y"}}
    tensors = {"first.edges": EDGES, "second.edges": EDGES}
    assert "4194304 pairs of regions are too many for 24 conditions" in refused(tmp_path, settings, tensors)


@pytest.mark.parametrize("wrong", [-1, 0, 1.5, True, "3", None, [], {}])
@pytest.mark.parametrize("name", ["size", "rows"])
def test_sizes_are_whole_numbers(name, wrong, tmp_path):
    settings, tensors = partitioners.Labels("label").fit(POOL).state_dict()
    settings["members"] |= {name: wrong}
    assert f"{name} must be a whole number" in refused(tmp_path, settings, tensors)


def test_tables_that_do_not_fit_are_refused(tmp_path):
    settings, tensors = partitioners.KMeans(3).fit(POOL).state_dict()
    for name, wrong in {"centroids": torch.zeros(2, 1), "offset": torch.zeros(4),
                        "members.row": torch.full((24,), 2**33)}.items():  # fmt: skip
        refused(tmp_path, settings, tensors | {name: wrong})
    refused(tmp_path, settings, tensors | {"centroids": torch.full((3, 1), torch.nan)})
    for name, value in {"chunk": 0, "normalise": "yes"}.items():
        assert name in refused(tmp_path, settings | {name: value}, tensors)
    settings, tensors = partitioners.OneRegion().fit(POOL).state_dict()
    rows = {"members": {"size": 24, "rows": 2}}, {"members.row": torch.zeros(24, dtype=torch.int32)}
    assert "there is one region" in refused(tmp_path, settings | rows[0], tensors | rows[1])
    assert "every bin holds all" in refused(tmp_path, BINS | rows[0], {"edges": EDGES} | rows[1])


def test_a_refinement_that_does_not_fit_is_refused(tmp_path):
    values = torch.tensor([0.0] * 12 + [9.0] * 12) + 0.01 * torch.arange(24) % 0.05
    base = partitioners.OneRegion().fit(POOL)
    refined, _ = partitioners.refine(base, POOL, torch.arange(24), values, min_size=4, min_seen=4)
    settings, tensors = refined.state_dict()
    assert settings["kind"] == "refined"
    for name, wrong in {"split": torch.tensor([5]), "left": torch.zeros(2, 1), "right": torch.zeros(1, 2)}.items():
        refused(tmp_path, settings, tensors | {name: wrong})
    assert "rounds" in refused(tmp_path, settings | {"rounds": [2]}, tensors)


@pytest.mark.parametrize("kind", [None, [], {}, 3])
def test_the_kind_is_a_word(kind, tmp_path):
    assert "unknown kind of partition" in refused(tmp_path, BINS | {"kind": kind}, {"edges": EDGES})


def test_a_pipe_is_no_partition(tmp_path):
    os.mkfifo(tmp_path / "p.safetensors")
    with pytest.raises(ValueError, match=r"p.safetensors is a pipe, not a file"):
        partitioners.load(tmp_path / "p.safetensors")
    with pytest.raises(ValueError, match="is a device, not a file"):
        partitioners.load("/dev/zero")
