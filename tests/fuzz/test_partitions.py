"""Any file is a partition or is refused in one line, even one that was edited with care."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from aria import partitioners, registry
from aria.partitioners import io
from aria.pool import Pool
from tests.fuzz.hostile import DEEP, Tried, files, values

POOL = Pool(columns={"style": ["ink", "oil", "ink"]}, weight=torch.tensor([1.0, 2.0, 3.0]))
SPECS = ("labels('style')", "one_region", "product(labels('style'), bins('timestep', 0, 1000, 4))")


def made(spec: str) -> tuple[dict[str, object], dict[str, torch.Tensor]]:
    return registry.partitioner(spec).fit(POOL).state_dict()


def written(described: object, tensors: dict[str, torch.Tensor]) -> bytes:
    """A file with a digest that is right, whatever its settings are."""
    digest = io._digest(described, tensors)  # type: ignore[arg-type]
    tensors = {name: value.clone() for name, value in tensors.items()}
    return save(tensors, {"format": io.FORMAT, "settings": json.dumps(described), "digest": digest})


def load(folder, content):
    path = folder / "regions.safetensors"
    path.write_bytes(content)
    with Tried() as tried:
        partition = partitioners.load(path)
        partition.names()
        assert partition.mass.sum() == pytest.approx(1)
    return tried.refused


@pytest.mark.parametrize("spec", SPECS)
def test_an_unharmed_file_is_read(tmp_path, spec):
    assert load(tmp_path, written(*made(spec))) is None


@settings(max_examples=150)
@given(files(*(written(*made(spec)) for spec in SPECS)))
def test_any_file_is_read_or_refused(tmp_path_factory, content):
    load(tmp_path_factory.mktemp("partition"), content)


@settings(max_examples=200)
@given(st.sampled_from(SPECS), st.data())
def test_any_settings_are_read_or_refused(tmp_path_factory, spec, data):
    described, tensors = made(spec)
    place = described
    while True:  # somewhere in the tree of settings
        name = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[name], dict) or data.draw(st.booleans()):
            break
        place = place[name]
    place[name] = data.draw(values)
    load(tmp_path_factory.mktemp("partition"), written(described, tensors))


tensor = st.sampled_from([
    torch.zeros(0), torch.zeros(3), torch.tensor([1]), torch.full((3,), -1), torch.full((3,), 9), torch.zeros(2, 2),
    torch.tensor([torch.nan, 1.0, 1.0]), torch.tensor([True, False, True]), torch.zeros(3, dtype=torch.complex64),
])  # fmt: skip


@settings(max_examples=100)
@given(st.sampled_from(SPECS), st.data())
def test_any_tensors_are_read_or_refused(tmp_path_factory, spec, data):
    described, tensors = made(spec)
    names = sorted({*tensors, "members.row", "members.weight", "mass"})
    tensors[data.draw(st.sampled_from(names))] = data.draw(tensor)
    load(tmp_path_factory.mktemp("partition"), written(described, tensors))


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["format", "settings", "digest", "x"]), st.text(max_size=9), max_size=4))
def test_any_foreign_metadata_is_refused(tmp_path_factory, metadata):
    assert load(tmp_path_factory.mktemp("partition"), save({"x": torch.zeros(1)}, metadata)) is not None


@pytest.mark.parametrize("deep", DEEP)
def test_deeply_nested_settings_are_refused(tmp_path, deep):
    metadata = {"format": io.FORMAT, "settings": deep.decode(), "digest": "x"}
    assert load(tmp_path, save({"x": torch.zeros(1)}, metadata)) is not None
    assert load(tmp_path, deep) is not None
