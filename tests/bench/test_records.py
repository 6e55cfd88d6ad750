"""The files of a comparison's numbers: what is not exactly what was written is refused, with what to do."""

from __future__ import annotations

import json
import math
import os
import random
import re
from contextlib import suppress

import pytest

from aria import integrity
from aria.bench import records

ROW = {"arm": "rc", "seed": 3, "step": 4, "metric": "gap", "group": "a", "value": 0.5}
ROWS = [ROW, ROW | {"group": "b", "value": 0.25}]


def test_what_is_written_comes_back(tmp_path):
    records.write(tmp_path / "cell.json", ROWS)
    assert records.read(tmp_path / "cell.json", "rc", 3) == ROWS
    assert records.worth(tmp_path / "cell.json") is None
    records.write(tmp_path / "cell.json", ROWS, {"regions": 5})
    assert records.read(tmp_path / "cell.json", "rc", 3) == ROWS
    assert records.worth(tmp_path / "cell.json") == {"regions": 5}


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "[1", json.dumps(ROWS), "[" * 10000])
def test_other_files_are_refused_by_name(text, tmp_path):
    path = tmp_path / "cell.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}.*; remove the file to compute the cell rc, seed 3"):
        records.read(path, "rc", 3)


@pytest.mark.parametrize("value, complaint", [
    ({"format": "aria-cell/1", "records": ROWS}, "its format is 'aria-cell/1', not aria-cell/2"),
    ({"format": records.FORMAT, "records": []}, "has no records"),
    ({"format": records.FORMAT, "records": [{}]}, "record 0: arm is missing"),
    ({"format": records.FORMAT}, "records must be a list, got None"),
    ({"format": records.FORMAT, "records": 5}, "records must be a list, got 5"),
    ({"format": records.FORMAT, "records": {"a": ROW}}, "records must be a list, got {'a': "),
    ({"format": records.FORMAT, "records": [5]}, "record 0: it must be an object, got 5"),
    ({"format": records.FORMAT, "records": [ROW | {"more": 1}]}, "group, value alone, has ['more']"),
    ({"format": [[5]], "records": ROWS}, "its format is [[5]], not aria-cell/2"),
    ({"format": records.FORMAT, "records": [ROW, ROW | {"value": "0.5"}]},
     "record 1: value must be a number of at most 1e+40, got '0.5'"),
    ({"format": records.FORMAT, "records": [ROW | {"step": True}]},
     "record 0: step must be a whole number from 0 to 2^53, got True"),
    ({"format": records.FORMAT, "records": [ROW | {"seed": 4}]}, "record 0 is of arm 'rc', seed 4"),
    *(
        ({"format": records.FORMAT, "records": [ROW | {name: value}]}, f"record 0: {name} must be ")
        for name, value in [("value", None), ("value", 1e300), ("value", 10**400), ("value", True), ("value", [1.0]),
                            ("seed", 3.0), ("step", -1), ("step", 1e999), ("step", 10**30), ("group", 5), ("arm", None)]
    ),
])  # fmt: skip
def test_records_follow_a_schema(value, complaint, tmp_path):
    integrity.write(tmp_path / "cell.json", value)
    with pytest.raises(ValueError, match=re.escape(complaint)):
        records.read(tmp_path / "cell.json", "rc", 3)


def test_a_value_may_be_unknown_or_infinite(tmp_path):
    """A group without images has none; a student that diverged has an infinite one."""
    records.write(tmp_path / "cell.json", [ROW | {"value": value} for value in (math.nan, math.inf, 1e38, 0)])
    first, *rest = [row["value"] for row in records.read(tmp_path / "cell.json", "rc", 3)]
    assert math.isnan(first) and rest == [math.inf, 1e38, 0]


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "cell.json")
    with pytest.raises(ValueError, match="is a pipe, not a file; remove the file"):
        records.read(tmp_path / "cell.json", "rc", 3)


def test_no_flipped_bit_is_accepted(tmp_path):
    path, chance = tmp_path / "cell.json", random.Random(0)
    records.write(path, ROWS)
    content = path.read_bytes()
    for _ in range(300):
        place = chance.randrange(8 * len(content))
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with suppress(ValueError):
            assert records.read(path, "rc", 3) == ROWS  # a space of the indentation became a tab, for example
