"""Discrepancy logs: two kinds of rows in two formats, read in pieces, and one line for whatever is no log."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from theory import log
from theory.cli import main
from theory.log import Log, LogError

HEAD = b"step,region,value\n"
ROW = b'{"step": 0, "region": 0, "value": 1.0}\n'


def write(folder, text, name="run.log"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def whole(path):
    """All visits of a log in one table, as {(region, step): (n, mean, within, freedom)}."""
    seen = {}
    for piece in Log(path).visits():
        for region, step, *rest in zip(*(part.tolist() for part in piece), strict=True):
            assert (region, step) not in seen
            seen[region, step] = rest
    return seen


@st.composite
def visits(draw):
    """The observations of each (step, region), steps rising."""
    keys = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=12, unique=True))
    values = st.lists(st.floats(0, 100, width=16), min_size=1, max_size=4)
    return {key: draw(values) for key in sorted(keys)}


def as_text(seen, kind, style):
    rows = []
    for (step, region), y in seen.items():
        if kind == "value":
            rows += [{"step": step, "region": region, "value": value} for value in y]
        else:
            rows.append({"step": step, "region": region, "n": len(y), "mean": float(np.mean(y)), "q": 0.25})
        if kind in ("square", "counted"):
            rows[-1]["square"] = float(np.mean(np.square(y)))
        if kind == "counted":
            rows[-1] |= {"update": 2 + step, "visits": 1}
    if style == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows)
    return "".join(",".join(map(str, row)) + "\n" for row in [list(rows[0]), *(row.values() for row in rows)])


KINDS = ["value", "mean", "square", "counted"]


@given(visits(), st.sampled_from(KINDS), st.sampled_from(["jsonl", "csv"]), st.integers(1, 200))
def test_both_kinds_of_rows_in_both_formats_read_alike_in_any_pieces(tmp_path_factory, seen, kind, style, piece):
    path = write(tmp_path_factory.mktemp("log"), as_text(seen, kind, style))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "PIECE", max(piece, 200))  # a piece holds the longest line
        read = whole(path)
    assert read.keys() == {(region, step) for step, region in seen}
    for (step, region), y in seen.items():
        n, mean, within, freedom, *counts = read[region, step]
        before = max((other for other, _ in seen if other < step), default=step - 1)
        np.testing.assert_equal(counts, [1, step - before if kind == "counted" else np.nan])
        assert n == len(y)
        assert mean == pytest.approx(np.mean(y))
        assert freedom == (0 if kind == "mean" else len(y) - 1)
        expected = 0.0 if kind == "mean" else np.var(y) * len(y)
        assert within == pytest.approx(expected, abs=1e-8)


def test_rows_of_means_and_squares_add_up_like_their_observations(tmp_path):
    """Two ranks each wrote a line for the same visit."""
    first, second = np.array([1.0, 2.0, 4.0]), np.array([3.0, 9.0])
    rows = [f"7,0,{len(y)},{y.mean()},{(y**2).mean()}" for y in (first, second)]
    path = write(tmp_path, "\n".join(["step,region,n,mean,square", *rows, ""]))
    n, mean, within, freedom, *counts = whole(path)[0, 7]
    np.testing.assert_equal(counts, [1, np.nan])
    both = np.concatenate([first, second])
    assert (n, freedom) == (5, 4)
    assert mean == pytest.approx(both.mean())
    assert within == pytest.approx(((both - both.mean()) ** 2).sum())


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (b"\xef\xbb\xbf" + HEAD + b"0,0,1\n", 1),
        (b"\xef\xbb\xbf" + ROW, 1),
        (b"\n\n" + HEAD + b"\n0,0,1\n\n1,0,2\n", 2),
        (b"step,region,value\r\n0,0,1\r\n1,0,2\r\n", 2),
        (b'step,prompt,region,value\n0,"a, 7, 8",0,1\n1,"b ""x"", y",0,2\n', 2),
        (b' step , "region" ,value\n0, 0, 1.5e0\n', 1),
        (b"step,region,n,mean\n0,0,0,nan\n1,0,3,2\n", 1),
    ],
)
def test_what_logs_look_like_in_practice(tmp_path, text, rows):
    read = Log(write(tmp_path, text))
    list(read.visits())
    assert (read.rows, read.torn) == (rows, False)


@pytest.mark.parametrize(
    ("tail", "rows", "torn"),
    [(b"", 1, False), (b'{"step": 1, "reg', 1, True), (b'{"step": 1, "region": 0, "value": 2}', 2, False)],
)
def test_a_line_being_written_is_left_out(tmp_path, tail, rows, torn):
    read = Log(write(tmp_path, ROW + tail))
    list(read.visits())
    assert (read.rows, read.torn) == (rows, torn)


def test_the_end_of_a_number_may_be_missing(tmp_path):
    """In a CSV nothing shows whether 12 was to become 12.5."""
    read = Log(write(tmp_path, HEAD + b"0,0,1\n1,0,12"))
    assert [v.mean.tolist() for v in read.visits()] == [[1.0]]
    assert read.torn


COUNTED = b"step,region,n,mean,visits,update\n"
BAD = [
    (b"", "is empty: it holds no rows"),
    (b"\n \n", "is empty: it holds no rows"),
    (HEAD, "holds no rows"),
    (HEAD + b"0,0,1", "holds no rows except an incomplete last line"),
    (b"step,region\n0,1\n", r"has no column value \(or n and mean\); it has: step, region"),
    (b"0,0,1.0\n", r"has no column step and no column region and no column value .*; it has: 0, 0, 1.0"),
    (b'{"a": 1}\n', "has no column step"),
    (b"step;region;value\n0;0;1\n", "must have cells separated by commas; its header is 'step;region;value'"),
    (b"step\tregion\tvalue\n0\t0\t1\n", "must have cells separated by commas"),
    (b"step,region,value,value\n0,0,1,2\n", "has the column value more than once"),
    (HEAD + b"0,0,nan\n", "line 2: the value must be finite and below 1e.50, got nan"),
    (HEAD + b"0,0,1\n\n1,0,inf\n", "line 4: the value must be finite and below 1e.50, got inf"),
    (HEAD + b"0,0,1e308\n", "line 2: the value must be finite"),
    (ROW + b'{"step": 1, "region": 0, "value": null}\n', "line 2: the value must be finite and below 1e.50, got nan"),
    (HEAD + b"5,0,1\n3,0,1\n", "line 3: steps go back from 5 to 3: use one log per run"),
    (HEAD + b"-1,0,1\n", "line 2: step must be a whole number of at least 0, got -1"),
    (HEAD + b"0.5,0,1\n", "line 2: step must be a whole number of at least 0, got 0.5"),
    (HEAD + b"0,-1,1\n", "line 2: region must be a whole number from 0 to 99999, got -1"),
    (HEAD + b"0,1.5,1\n", "line 2: region must be a whole number from 0 to 99999, got 1.5"),
    (b"step,region,n,mean\n0,0,0.5,1\n", "line 2: n must be a whole number of at least 0, got 0.5"),
    (b"step,region,n,mean,square\n0,0,2,2,1\n", "line 2: square must be finite and at least the mean squared"),
    (COUNTED + b"0,0,9,1,1,0.5\n", "line 2: update must be a whole number of at least 0, got 0.5"),
    (COUNTED + b"0,0,2,1,3,5\n", "line 2: visits must be a whole number from 0 to n=2, got 3"),
    (COUNTED + b"0,0,9,1,1,1\n1,0,9,1,1,1\n", "step 1: update is 1 with visits=1, 0 more than before: it must count"),
    (COUNTED + b"0,0,9,1,1,1\n1,0,9,1,1,3\n", "step 1: update is 3 with visits=1, 2 more .* and no more than steps"),
    (COUNTED + b"0,0,9,1,1,1\n5,0,9,1,3,3\n", "step 5: update is 3 with visits=3, 2 more than before"),
    (COUNTED + b"5,0,9,1,1,3\n5,1,9,1,1,4\n", "step 5: update is 4 with visits=1, .* the same in all rows of a step"),
    (HEAD + b"0,0,1\n" + HEAD + b"0,0,1\n", "line 3: it is the header again: use one log per run"),
    (HEAD + b"0,0,1\n1,0,2.1,0,3\n", "line 3: it has 5 cells, the header 3 in '1,0,2.1,0,3'"),
    (HEAD + b"0,0,\n", "line 2: it cannot be read in '0,0,'"),
    (ROW + b'{"step": 1, "reg' + ROW, "line 2: it cannot be read in"),
    (ROW + b'{"step": 1, "region": 0, "n": 2, "mean": 1}\n', "line 2: there is no 'value'"),
    (ROW + b"[1, 2]\n", "line 2: it is not a JSON object"),
    (ROW + b'{"step": 1, "region": 0, "value": [1, 2]}\n', "line 2: it cannot be read"),
    (ROW + b'{"step": 1' + b"0" * 400 + b', "region": 0, "value": 1}\n', "line 2: it cannot be read"),
    (ROW + b'{"step": 1, "region": 0, "value": ' + b"[" * 200_000 + b"\n", "line 2: it cannot be read"),
    (b'[{"step": 0}]', "begins with a list: write one JSON object a line"),
    (b'{\n "step": 0\n}\n', "line 1: it cannot be read in '{'"),
    (gzip.compress(ROW, mtime=0), "is compressed with gzip: unpack it first"),
    (bytes(1000), "is not UTF-8 text"),
    (bytes(range(255, 0, -1)) * 40, "is not UTF-8 text"),
    ("step,region,value\n0,0,1\n".encode("utf-16"), "is not UTF-8 text"),
    (HEAD + b"0,0,\xe9\n", "line 2: it cannot be read"),
    (b"a" * 200_000, "line 1: field larger than field limit"),
]


def test_updates_are_counted_since_the_step_before_and_other_columns_of_that_name_are_passed_over(tmp_path):
    """A log whose head was cut, and whose windows without a row count too; `visits` alone means something else."""
    text = COUNTED + b"70,0,9,1,7,60\n70,1,9,1,8,60\n80,0,9,1,0,70\n100,1,9,1,3,90\n"
    read = whole(write(tmp_path, text))
    counts = {place: tuple(rest[4:]) for place, rest in read.items()}
    assert counts == {(0, 70): (7, 8), (1, 70): (8, 8), (0, 80): (1, 10), (1, 100): (3, 20)}
    (tmp_path / "other").mkdir()
    plain = whole(write(tmp_path / "other", b"step,region,n,mean,visits\n0,0,2,1,500\n"))
    np.testing.assert_equal(plain[0, 0][4:], [1, np.nan])


@pytest.mark.parametrize(("text", "sentence"), BAD)
def test_what_is_no_log_is_refused_in_one_line(tmp_path, text, sentence):
    path = write(tmp_path, text)
    with pytest.raises(LogError, match=sentence) as caught:
        whole(path)
    assert str(caught.value).startswith("run.log ")
    result = CliRunner().invoke(main, ["check-log", str(path)])
    assert (result.exit_code, result.output.count("\n")) == (2, 1)


def test_a_line_without_end_is_not_kept_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(log, "PIECE", 1000)
    with pytest.raises(LogError, match="line 2 is longer than 1000 bytes"):
        whole(write(tmp_path, HEAD + b"0,0," + b"1" * 5000))


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(LogError, match="is a folder: give the log file in it"):
        Log(tmp_path)
    with pytest.raises(FileNotFoundError):
        Log(tmp_path / "nowhere.csv")
