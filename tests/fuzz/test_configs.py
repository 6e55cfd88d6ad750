"""Any configuration file is read by ``aria distill`` or refused in one line."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec("diffusers") is None:
    pytest.skip("needs diffusers", allow_module_level=True)

from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from aria.cli import main
from aria.distill.settings.config import Config, settings
from tests.fuzz.hostile import DEEP, NO_FLOAT, Tried, as_json, exit_code_of, files, values

NAMES = [name for one in settings() for name in (one.name, f"{one.section}.{one.name}")]
SECTIONS = sorted({one.section for one in settings()})
TOML = b'max_train_steps = 100\nlearning_rate = 1e-4\nobjective = ["output"]\n[allocation]\nfloor = 0.3\n'
YAML = b"max_train_steps: 100\nlearning_rate: 1e-4\nobjective: [output]\nallocation:\n  floor: 0.3\n"
JSON = as_json({"max_train_steps": 100, "learning_rate": 1e-4, "objective": ["output"], "allocation": {"floor": 0.3}})


def read(folder, content, ending):
    path = folder / f"run{ending}"
    path.write_bytes(content)
    with Tried() as tried:
        Config.read(path)
    return tried.refused


@pytest.mark.parametrize(("content", "ending"), [(TOML, ".toml"), (YAML, ".yaml"), (JSON, ".json")])
def test_an_unharmed_file_is_read(tmp_path, content, ending):
    assert read(tmp_path, content, ending) is None


@profile(max_examples=150)
@given(st.sampled_from([".toml", ".yaml", ".json"]).flatmap(
    lambda ending: st.tuples(files(TOML, YAML, JSON), st.just(ending))))  # fmt: skip
def test_any_file_is_read_or_refused(tmp_path_factory, file):
    read(tmp_path_factory.mktemp("config"), *file)


@profile(max_examples=300)
@given(st.dictionaries(st.sampled_from([*NAMES, *SECTIONS]) | st.text(max_size=8), values, min_size=1, max_size=3))
def test_any_values_are_taken_or_refused(chosen):
    with Tried():
        Config().with_values(chosen)


@profile(max_examples=150)
@given(st.sampled_from([*NAMES, *SECTIONS]), values)
def test_any_json_is_read_or_refused(tmp_path_factory, name, value):
    read(tmp_path_factory.mktemp("config"), as_json({name: value}), ".json")


@pytest.mark.parametrize("deep", DEEP)
@pytest.mark.parametrize("ending", [".toml", ".yaml", ".json"])
def test_a_deeply_nested_file_is_refused(tmp_path, deep, ending):
    assert read(tmp_path, deep, ending) is not None


def test_a_number_that_overflows_a_float_is_refused(tmp_path):
    assert read(tmp_path, as_json({"learning_rate": NO_FLOAT}), ".json") is not None


@profile(max_examples=40)
@given(files(TOML))
def test_the_command_reads_or_refuses_any_file(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("config") / "run.toml"
    path.write_bytes(content)
    assert exit_code_of(main, ["distill", "--config", path]) == 2  # at best the teacher is missing
