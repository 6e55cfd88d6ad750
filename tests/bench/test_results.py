"""The committed results, whose tables are computed again from their records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aria.bench import table

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("bench-*.json")), ids=lambda path: path.stem)
def test_a_committed_table_follows_from_its_records(path):
    """Except for the adjusted p values beside lookahead, which counted as an arm when that table was made."""
    result = json.loads(path.read_text(encoding="utf-8"))
    again = table.rows(result["records"], result["groups"], result["baseline"])
    ahead = any(row["arm"] == "lookahead" for row in result["table"])
    names = ["mean", "error", "p", "value", *([] if ahead else ["p_adjusted"])]
    compared = 0
    for before, now in zip(result["table"], again, strict=True):
        assert before["arm"] == now["arm"]
        for column, cell in before.items():
            for name in cell if column == "steps" else cell.keys() & set(names) if isinstance(cell, dict) else ():
                wanted = None if cell[name] is None else pytest.approx(cell[name], rel=1e-12)
                assert now[column][name] == wanted, (before["arm"], column, name)
                compared += 1
    assert compared > 100
