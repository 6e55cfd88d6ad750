"""The comparison of rules that choose blocks: every student once, continued after a stop, and the table."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("diffusers")
from benchmarks import blocks


@pytest.mark.slow
def test_a_stopped_command_is_continued_and_trains_no_student_twice(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(blocks, "SIZES", {"joint-attention": (2,)})
    out = tmp_path / "out.json"
    words = ["--teachers", "joint-attention", "--seeds", "1", "--steps", "1", "--asked", "2", "--images", "2"]
    words += ["--output", str(out)]
    trained, stop = blocks.World.trained, 1

    def train(*arguments):
        nonlocal stop
        if not stop:
            raise KeyboardInterrupt
        stop -= 1
        return trained(*arguments)

    monkeypatch.setattr(blocks.World, "trained", train)
    with pytest.raises(KeyboardInterrupt):
        blocks.main(words)
    before = json.loads(out.read_text())
    assert len(before["students"]) == 1
    stop = 2
    assert blocks.main(words) == 0
    found = json.loads(out.read_text())
    assert found["choices"] == before["choices"] and found["students"][0] == before["students"][0]
    assert sorted(cell["blocks"] for cell in found["students"]) == [[0, 3], [1, 3], [2, 3]]
    assert {choice["rule"] for choice in found["choices"]} == {
        "position", "similarity", "recoverability", "recoverability, one pass", "every"
    }  # fmt: skip
    for cell in found["students"]:
        assert all(cell[name] > 0 for name in ("error", "fresh_gap", "trained_error", "gap"))
    lines = capsys.readouterr().out.splitlines()
    assert sum("every" in line for line in lines) == 3 and sum("+0.0%" in line and "position" in line for line in lines)
    with pytest.raises(SystemExit):
        blocks.main([*words, "--steps", "2"])
    assert "was made with" in capsys.readouterr().err


def test_gaps_are_compared_with_evenly_spaced_blocks_of_the_same_seed():
    def choice(rule, seed, kept):
        return {"teacher": "t", "keep": 1, "seed": seed, "rule": rule, "blocks": [kept]}

    def student(seed, kept, gap):
        return {"teacher": "t", "seed": seed, "blocks": [kept], "error": 0.5, "fresh_gap": 1.0, "gap": gap}

    choices = [choice("position", 0, 0), choice("position", 1, 0), choice("other", 0, 1), choice("other", 1, 2)]
    students = [student(0, 0, 1.0), student(1, 0, 4.0), student(0, 1, 0.5), student(1, 2, 4.0)]
    _, position, other = blocks.table({"choices": choices, "students": students}).splitlines()
    assert position.split()[-2:] == ["+0.0%", "0"]
    assert other.split()[-3:] == ["-25.0%", "1", "2"]
