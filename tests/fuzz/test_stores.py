"""A cache that was damaged or edited is refused in one line."""

from __future__ import annotations

import importlib.util
import json
import struct

import pytest

if importlib.util.find_spec("diffusers") is None:
    pytest.skip("needs diffusers", allow_module_level=True)

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aria.distill.data.store import INDEX, Store, Writer
from aria.tensor_files import map_tensors
from tests.fuzz.hostile import DEEP, Tried, as_json, values


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    with Writer(folder, {"encoder": "a"}, total=3) as writer:
        writer.append({"x": torch.ones(3, 2), "row": torch.arange(3)})
    return folder


@settings(max_examples=200)
@given(st.data())
def test_any_index_is_read_or_refused(index, data):
    whole = (index / INDEX).read_bytes()
    edited = place = json.loads(whole)
    while True:  # somewhere in the tree
        name = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not (isinstance(place[name], dict | list) and place[name]) or data.draw(st.booleans()):
            break
        place = place[name]
    place[name] = data.draw(values)
    try:
        (index / INDEX).write_bytes(as_json(edited))
        with Tried():
            Store(index).gather(torch.tensor([2, 0]))
    finally:
        (index / INDEX).write_bytes(whole)


HEADERS = (
    *DEEP[:2], b'{"x": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 0]}}', b'{"x": {"dtype": []}}', b"[]",
    b'{"x": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 4]}}', b'{"__metadata__": "x"}',
)  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_any_invalid_header_is_refused(header, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with Tried() as tried:
        map_tensors(path)
    assert tried.refused is not None
