"""``aria partition`` answers any file of prompts: with its regions, or with one line."""

from __future__ import annotations

import importlib.util
import io

import pytest

if any(importlib.util.find_spec(name) is None for name in ("diffusers", "pyarrow")):
    pytest.skip("needs diffusers and pyarrow", allow_module_level=True)

from hypothesis import given, settings
from hypothesis import strategies as st

from aria.cli import main
from tests.fuzz.hostile import DEEP, NO_FLOAT, answered, as_json, files, values

CSV = b'text,style,weight\na cat,photo,1\n"a dog, asleep",sketch,2.5\nan owl,photo,0\n'
JSONL = b'{"text": "a cat", "style": "photo"}\n{"text": "a dog", "style": null}\n'
TXT = "a cat\nein Bär\n🦊\n".encode()


def parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a cat", "a dog"], "weight": [1.0, 2.0]}), sink)
    return sink.getvalue()


WHOLE = {".csv": CSV, ".jsonl": JSONL, ".txt": TXT, ".parquet": parquet()}


def partition(folder, content, ending):
    path = folder / f"prompts{ending}"
    path.write_bytes(content)
    return answered(main, ["partition", "--prompts", path, "--partitioner", "one_region", "--json"])


@pytest.mark.parametrize("ending", WHOLE)
def test_an_unharmed_file_is_read(tmp_path, ending):
    assert partition(tmp_path, WHOLE[ending], ending) == 0


@settings(max_examples=120)
@given(st.sampled_from([".csv", ".jsonl", ".txt"]).flatmap(lambda end: st.tuples(files(WHOLE[end]), st.just(end))))
def test_any_file_is_answered(tmp_path_factory, told):
    partition(tmp_path_factory.mktemp("prompts"), *told)


@settings(max_examples=120)
@given(files(WHOLE[".parquet"]))
def test_any_parquet_file_is_answered(tmp_path_factory, content):
    partition(tmp_path_factory.mktemp("prompts"), content, ".parquet")


@pytest.mark.parametrize("deep", DEEP[:2])
def test_a_line_without_end_is_answered(tmp_path, deep):
    assert partition(tmp_path, JSONL + deep + b"\n", ".jsonl") == 2


def test_a_weight_that_no_float_holds_is_answered(tmp_path):
    assert partition(tmp_path, as_json({"text": "a cat", "weight": NO_FLOAT}) + b"\n", ".jsonl") == 2


row = st.fixed_dictionaries({}, optional={name: values for name in ("text", "weight", "style", "")})


@settings(max_examples=150)
@given(st.lists(row, max_size=3))
def test_any_rows_are_answered(tmp_path_factory, rows):
    partition(tmp_path_factory.mktemp("prompts"), b"".join(as_json(row) + b"\n" for row in rows), ".jsonl")
