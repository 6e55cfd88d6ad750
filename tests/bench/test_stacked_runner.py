"""A comparison resumes where it was killed, repeats no run, and keys runs by all of their inputs."""

from __future__ import annotations

import sys
import types
from contextlib import nullcontext
from dataclasses import replace

import pytest

from aria.bench import table
from aria.bench.arms import Arm, arm
from aria.bench.running import run_experiment, runner_of
from aria.bench.settings import SETTINGS
from aria.bench.stacked_runner import StackedRunner
from aria.tasks import GROUPS
from tests.bench import small
from tests.bench.small import GREEDY


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted comparison and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return run_experiment(small.comparison(), folder), folder


def values(rows):
    return {(r["arm"], r["seed"], r["step"], r["metric"], r["group"]): r["value"] for r in rows}


def name(comparison, arm, seed):
    return runner_of(comparison).name(arm, seed)


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_records_are_complete(whole):
    rows, _ = whole
    assert len(rows) == len(values(rows)) == 2 * 2 * 2 * (2 * len(GROUPS) + 2)
    assert {r["step"] for r in rows} == {10, 20}
    assert all(r["value"] > 0 for r in rows)


def test_the_same_arms_and_seeds_give_the_same_table_twice(whole, tmp_path):
    rows, _ = whole
    assert values(run_experiment(small.comparison(), tmp_path)) == values(rows)
    assert table.rows(run_experiment(small.comparison(), tmp_path), GROUPS) == table.rows(rows, GROUPS)


def test_finished_runs_are_not_computed_again(whole):
    rows, folder = whole
    before, seen = times(folder), []
    assert len(before) == 4
    assert run_experiment(small.comparison(), folder, bar=lambda label: small.counted(seen)) == rows
    assert times(folder) == before and seen == []


def test_a_killed_comparison_resumes(whole, tmp_path):
    """Killed within the second seed: the first is kept as it is, and the whole is what it would have been."""
    rows, _ = whole

    def killed(done, total):
        if done == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        StackedRunner(small.comparison(), together=1).run(tmp_path, bar=lambda label: nullcontext(killed))
    before = times(tmp_path)
    assert len(before) == 2
    again = run_experiment(small.comparison(), tmp_path)
    assert {name: times(tmp_path)[name] for name in before} == before
    assert values(again) == pytest.approx(values(rows), rel=1e-3)


def test_only_what_is_missing_is_made(whole, tmp_path):
    """One arm's cell of one seed is gone: only that one is trained, with the same result as with the others."""
    rows, folder = whole
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    gone = name(small.comparison(), small.ARMS["aria-q"], 1)
    (tmp_path / f"{gone}.json").unlink()
    before, seen = times(tmp_path), []
    again = run_experiment(small.comparison(), tmp_path, bar=lambda label: small.counted(seen))
    assert seen[-1] == (20, 20)
    assert {name: time for name, time in times(tmp_path).items() if name in before} == before
    assert values(again) == pytest.approx(values(rows), rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": replace(small.TASK, skew=0.5)},
        {"setting": SETTINGS["tuned"]},
        {"values": small.VALUES | {"batch_size": 8}},
        {"steps": 16},
        {"exams": 4},
    ],
    ids=str,
)
def test_every_option_changes_the_key_of_the_cell(changes):
    arm = small.ARMS["rc"]
    assert name(small.comparison(**changes), arm, 0) != name(small.comparison(), arm, 0)


def test_seed_and_arm_change_the_key_of_the_cell():
    one = small.comparison()
    cells = [name(one, replace(small.ARMS["rc"], floor=floor), seed) for floor in (0.1, 0.2) for seed in (0, 1)]
    cells += [name(one, small.ARMS["oracle"], 0), name(small.comparison(seeds=(0, 5)), small.ARMS["rc"], 0)]
    assert len(set(cells)) == 5 and cells[2] == cells[5]  # the other seeds of a comparison do not matter


def test_the_code_of_users_parts_changes_the_key_of_the_cell(tmp_path, monkeypatch):
    """The same arm has the same key as long as its code is the same; edited code is another arm."""
    cells = []
    for folder, source in (("one", GREEDY), ("same", GREEDY), ("edited", GREEDY + "\nEDITED = True\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "greedy.py").write_text(source)
        monkeypatch.chdir(tmp_path / folder)
        cells.append(name(small.comparison(), arm("greedy.py:Greedy"), 0))
    assert cells[0] == cells[1] != cells[2]


def test_a_task_typed_into_an_interpreter_names_the_cell_by_its_methods(monkeypatch):
    """Without a file to read, its methods are hashed."""
    cells = []
    for offset in (1, 1, 2):
        typed = types.ModuleType("typed")
        monkeypatch.setitem(sys.modules, "typed", typed)
        exec(
            "from aria.tasks import Concepts\n"
            "class Mine(Concepts):\n"
            "    def world(self, seed):\n"
            f"        return super().world(seed + {offset})\n",
            vars(typed),
        )
        cells.append(name(small.comparison(task=typed.Mine()), small.ARMS["rc"], 0))
    assert cells[0] == cells[1] != cells[2]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"arms": [Arm("rc"), Arm("rc", floor=0.1)]}, "arms must be different from one another, got rc more than once"),
        ({"seeds": (1, 1)}, "seeds must be different from one another, got 1 more than once"),
        ({"arms": []}, "nothing to compare: no arms"),
        ({"exams": 0}, "exams must be a whole number of at least 1, got 0"),
        ({"steps": 1}, "steps must be a whole number of at least 2, got 1"),
        ({"values": {"batchsize": 8}}, "unknown setting 'batchsize' .did you mean 'batch_size'.*; in memory there are"),
    ],
)
def test_what_cannot_be_compared_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        runner_of(small.comparison(**changes))
