"""Any log given to ``aria-sim check-log`` yields a table or is refused in one line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.hostile import DEEP, as_json, exit_code_of, files, scalars
from theory.cli import main

ROWS = [{"step": step, "region": step % 2, "n": 2, "mean": 1.0 + step / 9, "square": 20.0} for step in range(30)]
JSONL = b"".join(as_json(row) + b"\n" for row in ROWS)
CSV = b"step,region,value\n" + b"".join(f"{row['step']},{row['region']},{row['mean']}\n".encode() for row in ROWS)


def check(folder, content):
    path = folder / "run.log"
    path.write_bytes(content)
    return exit_code_of(main, ["check-log", path], allowed=(0, 1, 2))


@pytest.mark.parametrize("content", [JSONL, CSV])
def test_an_unharmed_log_is_read(tmp_path, content):
    assert check(tmp_path, content) == 0


@pytest.mark.parametrize("deep", DEEP)
def test_a_deeply_nested_line_is_refused(tmp_path, deep):
    assert check(tmp_path, JSONL + deep + b"\n") == check(tmp_path, deep) == 2


@settings(max_examples=80)
@given(files(JSONL, CSV))
def test_any_file_is_read_or_refused(tmp_path_factory, content):
    check(tmp_path_factory.mktemp("log"), content)


row = st.fixed_dictionaries({}, optional={name: scalars for name in ("step", "region", "n", "mean", "square", "value")})


@settings(max_examples=80)
@given(st.lists(row, max_size=4), st.integers(0, len(ROWS)))
def test_any_rows_are_read_or_refused(tmp_path_factory, rows, before):
    content = b"".join(as_json(one) + b"\n" for one in [*ROWS[:before], *rows])
    check(tmp_path_factory.mktemp("log"), content)
