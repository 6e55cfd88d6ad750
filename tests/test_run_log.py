"""Logs when a run is resumed: rows after the checkpoint go, and what is no log of a run is refused by name."""

from __future__ import annotations

import json
import os
import re

import pytest

from aria import run_log

ROWS = [b'{"step": %d, "output": 1.0}\n' % step for step in (1, 2, 2, 3)]


def dropped(path, content, step=2):
    path.write_bytes(content)
    run_log.drop_after(path, step)
    return path.read_bytes()


def test_rows_after_the_step_and_an_incomplete_line_go(tmp_path):
    path = tmp_path / "losses.jsonl"
    assert dropped(path, b"".join(ROWS)) == b"".join(ROWS[:3])
    assert dropped(path, b"".join(ROWS[:2]) + b'{"step"') == b"".join(ROWS[:2])
    assert dropped(path, b"".join(ROWS), step=0) == dropped(path, b"no log\n", step=0) == dropped(path, b"") == b""
    assert list(tmp_path.iterdir()) == [path]
    path.unlink()
    run_log.drop_after(path, 2)
    assert not path.exists()


def test_letters_of_a_row_stay(tmp_path):
    row = (json.dumps({"step": 1, "prompt": "a \u2028 \x85 b"}, ensure_ascii=False) + "\n").encode()
    assert dropped(tmp_path / "validation.jsonl", row + ROWS[1]) == row + ROWS[1]


@pytest.mark.parametrize(
    "damaged", [b"\xff", b"\0" * 9, b"", b"[1]", b"{}", b'{"step": "2"}', b'{"step": -1}', b"[" * 100_000],
    ids=range(8),
)  # fmt: skip
def test_a_damaged_row_is_refused_by_file_and_line_unless_it_goes(damaged, tmp_path):
    path = tmp_path / "losses.jsonl"
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}, line 2: .*; mend the line, or remove the file to "):
        dropped(path, ROWS[0] + damaged + b"\n" + ROWS[1])
    assert damaged in path.read_bytes()
    assert dropped(path, b"".join(ROWS) + damaged + b"\n" + ROWS[3]) == b"".join(ROWS[:3])


def test_junk_without_a_line_break_is_no_incomplete_row(tmp_path):
    path = tmp_path / "losses.jsonl"
    with pytest.raises(ValueError, match="line 1: no JSON"):
        dropped(path, b"a shopping list")
    assert path.read_bytes() == b"a shopping list"


def test_what_is_no_file_is_refused(tmp_path):
    path = tmp_path / "losses.jsonl"
    for make, kind in ((lambda: os.mkfifo(path), "pipe"), (path.mkdir, "folder")):
        make()
        with pytest.raises(ValueError, match=f"losses.jsonl is a {kind}, not a file"):
            run_log.drop_after(path, 2)
        path.rmdir() if path.is_dir() else path.unlink()
