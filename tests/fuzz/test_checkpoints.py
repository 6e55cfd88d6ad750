"""A checkpoint with any damage is resumed, or refused in one line."""

from __future__ import annotations

import importlib.util
import shutil

import pytest

if importlib.util.find_spec("diffusers") is None:
    pytest.skip("needs diffusers", allow_module_level=True)

from hypothesis import given, settings
from hypothesis import strategies as st

from aria import integrity
from aria.distill.runs import checkpoint
from tests.distill import tiny
from tests.fuzz.hostile import DEEP, Tried, mutated, values

SETTINGS = {"seed": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A checkpoint, and a run that can be resumed from it."""
    begun = tiny.make()
    begun.step()
    return tiny.save(begun, tmp_path_factory.mktemp("run"), SETTINGS), tiny.make()


def resume(distiller, folder):
    with Tried() as tried:
        checkpoint.load(distiller.state(), folder, settings=SETTINGS)
    return tried.refused


@pytest.fixture
def copied(whole, tmp_path_factory):
    """A way to a fresh copy of the checkpoint."""

    def copy():
        return shutil.copytree(whole[0], tmp_path_factory.mktemp("copy") / whole[0].name)

    return copy


def test_an_unharmed_checkpoint_is_resumed(whole, copied):
    assert resume(whole[1], copied()) is None


@settings(max_examples=60)
@given(st.data())
def test_any_damaged_file_is_read_or_refused(whole, tmp_path_factory, data):
    folder = shutil.copytree(whole[0], tmp_path_factory.mktemp("copy") / whole[0].name)
    path = folder / data.draw(st.sampled_from(sorted(p.name for p in folder.iterdir() if p.is_file())))
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(mutated(path.read_bytes())))
    else:
        path.unlink()
    resume(whole[1], folder)


@settings(max_examples=60)
@given(st.data())
def test_any_state_is_resumed_or_refused(whole, tmp_path_factory, data):
    folder = shutil.copytree(whole[0], tmp_path_factory.mktemp("copy") / whole[0].name)
    state = integrity.read(folder / "state.json")
    state[data.draw(st.sampled_from(sorted(state)))] = data.draw(values)
    integrity.write(folder / "state.json", state)
    resume(whole[1], folder)


@pytest.mark.parametrize("deep", DEEP[:2])
def test_a_deeply_nested_state_is_refused(whole, copied, deep):
    folder = copied()
    (folder / "state.json").write_bytes(deep)
    assert resume(whole[1], folder) is not None
