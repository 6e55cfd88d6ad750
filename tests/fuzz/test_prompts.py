"""Any file of prompts given to ``aria partition`` yields regions or is refused in one line."""

from __future__ import annotations

import importlib.util
import io

import pytest

if any(importlib.util.find_spec(name) is None for name in ("diffusers", "pyarrow")):
    pytest.skip("needs diffusers and pyarrow", allow_module_level=True)

from hypothesis import given, settings
from hypothesis import strategies as st

from aria.cli import main
from tests.fuzz.hostile import DEEP, NO_FLOAT, as_json, exit_code_of, files, values

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
    return exit_code_of(main, ["partition", "--prompts", path, "--partitioner", "one_region", "--json"])


@pytest.mark.parametrize("ending", WHOLE)
def test_an_unharmed_file_is_read(tmp_path, ending):
    assert partition(tmp_path, WHOLE[ending], ending) == 0


@settings(max_examples=120)
@given(st.sampled_from([".csv", ".jsonl", ".txt"]).flatmap(lambda end: st.tuples(files(WHOLE[end]), st.just(end))))
def test_any_file_is_read_or_refused(tmp_path_factory, file):
    partition(tmp_path_factory.mktemp("prompts"), *file)


@settings(max_examples=120)
@given(files(WHOLE[".parquet"]))
def test_any_parquet_file_is_read_or_refused(tmp_path_factory, content):
    partition(tmp_path_factory.mktemp("prompts"), content, ".parquet")


@pytest.mark.parametrize("deep", DEEP[:2])
def test_a_deeply_nested_line_is_refused(tmp_path, deep):
    assert partition(tmp_path, JSONL + deep + b"\n", ".jsonl") == 2


def test_a_weight_that_overflows_a_float_is_refused(tmp_path):
    assert partition(tmp_path, as_json({"text": "a cat", "weight": NO_FLOAT}) + b"\n", ".jsonl") == 2


def test_half_a_surrogate_pair_in_another_column_is_refused(tmp_path):
    """In a column that would be printed, or be the name of one."""
    for row in ({"text": "a cat", "style": "\ud800"}, {"text": "a cat", "\ud800": "x"}):
        path = tmp_path / "prompts.jsonl"
        path.write_bytes(as_json(row) + b"\n")
        assert exit_code_of(main, ["partition", "--prompts", path, "--partitioner", "labels('style')"]) == 2


def test_utf_16_without_a_byte_order_mark_is_refused(tmp_path):
    """Every other byte is 0, and as UTF-8 this is text."""
    assert partition(tmp_path, "a cat\na dog\n".encode("utf-16-le"), ".txt") == 2


def written(**columns) -> bytes:
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    names = [name.rstrip("_") for name in columns]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(list(columns.values()), names), sink)
    return sink.getvalue()


def test_parquet_that_has_no_python_value(tmp_path):
    """Two columns of one name; times after the year 9999, which are left out like all times."""
    import pyarrow

    text, late = pyarrow.array(["a cat"]), pyarrow.array([2**60], pyarrow.timestamp("us"))
    assert partition(tmp_path, written(text=text, text_=text), ".parquet") == 2
    assert partition(tmp_path, written(text=text, when=late), ".parquet") == 0


@pytest.mark.parametrize("state", [b"[]", b"3", b"{}", b"{"])
def test_a_folder_of_datasets_with_another_state_is_refused(tmp_path, state):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"text": ["a cat"]}).save_to_disk(tmp_path / "pool")
    command = ["partition", "--prompts", tmp_path / "pool", "--partitioner", "one_region"]
    assert exit_code_of(main, command) == 0
    (tmp_path / "pool" / "state.json").write_bytes(state)
    assert exit_code_of(main, command) == 2


row = st.fixed_dictionaries({}, optional={name: values for name in ("text", "weight", "style", "")})


@settings(max_examples=150)
@given(st.lists(row, max_size=3))
def test_any_rows_are_read_or_refused(tmp_path_factory, rows):
    partition(tmp_path_factory.mktemp("prompts"), b"".join(as_json(row) + b"\n" for row in rows), ".jsonl")
