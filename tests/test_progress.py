"""Progress: plain lines where there is no terminal, and a bar on one."""

from __future__ import annotations

import io

import pytest

from aria.progress import INTERVAL, Lines, bar


class Clock:
    """Tells the time it is set to."""

    now = 100.0

    def __call__(self):
        return self.now


def lines_of(*calls, total=100, wait=0.0):
    """The lines after calls at (seconds, done)."""
    clock, lines = Clock(), []
    with Lines("steps", write=lines.append, clock=clock) as progress:
        clock.now += wait
        begun = clock.now
        for at, done in calls:
            clock.now = begun + at
            progress(done, total)
    return lines


def test_without_work_nothing_is_printed():
    assert lines_of() == []


def test_a_line_at_once_then_now_and_then_and_at_the_end():
    steps = [(second, second) for second in range(101)]
    lines = lines_of(*steps)
    assert lines[0] == "steps: 0 of 100 (0 %)"
    assert lines[1] == f"steps: 15 of 100 (15 %), {INTERVAL:.0f} s so far, about 85 s left"
    assert lines[-1] == "steps: 100 of 100 (100 %), 100 s"
    assert len(lines) == 1 + 100 // 15 + 1


def test_a_long_run_prints_fewer_lines():
    lines = lines_of(*((10 * place, place) for place in range(3600)), total=3600)
    assert len(lines) < 150


@pytest.mark.parametrize("wait", [0.0, 500.0])
def test_the_rest_is_estimated_from_the_work_alone(wait):
    """What was done before the first word, and the time that went by, are no part of it."""
    assert lines_of((0, 40), (20, 50), wait=wait)[-1] == "steps: 50 of 100 (50 %), 20 s so far, about 100 s left"


def test_work_in_large_pieces_prints_a_line_now_and_then():
    assert lines_of((0, 0), (5, 0), (16, 0), total=3)[-1] == "steps: 0 of 3 (0 %), 16 s so far"


def test_progress_is_lines_where_there_is_no_terminal(capsys):
    with bar("steps") as progress:
        progress(0, 100), progress(20, 100), progress(100, 100)
    assert capsys.readouterr() == ("", "steps: 0 of 100 (0 %)\nsteps: 100 of 100 (100 %)\n")
    with bar("steps", hidden=True) as progress:
        progress(50, 100)
    assert capsys.readouterr() == ("", "")


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", shown := Terminal())
    with bar("steps") as progress:
        progress(20, 100)
        progress.show(loss="0.5")
        progress(100, 100)
    assert "steps:  20%" in shown.getvalue() and "of 100" not in shown.getvalue()
    assert "100/100" in shown.getvalue() and "loss=0.5" in shown.getvalue()


def test_values_stand_beside_the_progress():
    written = []
    with Lines("steps", write=written.append) as progress:
        progress.show(loss="0.5")
        progress(0, 10)
    assert written == ["steps: 0 of 10 (0 %), loss 0.5"]
