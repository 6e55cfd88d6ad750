"""Greedy lookahead: after every turn all candidates continue from the truly best student."""

from __future__ import annotations

import pytest
import torch

from aria.bench import lookahead, table
from aria.bench.arms import LOOKAHEAD, arm
from aria.bench.exam import Exam
from aria.bench.running import run_experiment, runner_of
from aria.bench.stacked_runner import StackedRunner
from aria.tasks import GROUPS
from tests.bench import small

ARMS = ("rc", "aria-r", "paired")


@pytest.fixture
def greedy(monkeypatch):
    monkeypatch.setattr(lookahead, "TURNS", 2)
    stacked = small.stacked(*(small.ARMS[name] for name in ARMS), seeds=(0, 1))
    exams = {seed: Exam(world, seed) for seed, world in stacked.worlds.items()}
    return lookahead.Lookahead(stacked, exams, len(ARMS), steps=20)


def everything(stacked, run):
    memory = [value for p in stacked.parameters.values() for value in stacked.optimizer.state[p].values() if value.ndim]
    held = (*stacked.parameters.values(), *stacked.average.values(), *memory)
    return [value[run].detach().clone() for value in held]


def test_candidates_continue_from_the_best_student_of_their_seed(greedy):
    stacked = greedy.stacked
    twin = small.stacked(*(small.ARMS[name] for name in ARMS), seeds=(0, 1), steps=10)
    for _ in range(10):
        greedy.step()
    for place, (seed, exam) in enumerate(greedy.exams.items()):
        runs = range(place * 3, place * 3 + 3)
        gap = exam.mark(twin, slice(runs.start, runs.stop))["gap"].double() @ stacked.worlds[seed].groups["uniform"]
        best = runs.start + int(gap.argmin())
        for run in runs:
            for one, other in zip(everything(stacked, run), everything(twin, best), strict=True):
                assert torch.equal(one, other)
        assert gap.max() > gap.min()


def test_between_turns_candidates_are_their_own(greedy):
    for _ in range(15):
        greedy.step()
    ones = everything(greedy.stacked, 0), everything(greedy.stacked, 1)
    assert any(not torch.equal(one, other) for one, other in zip(*ones))


def test_the_result_of_a_seed_is_that_of_its_best_student(greedy):
    for _ in range(7):
        greedy.step()
    for place, (seed, mark) in enumerate(greedy.marks()):
        world = greedy.stacked.worlds[seed]
        gaps = greedy.exams[seed].mark(greedy.stacked, slice(3 * place, 3 * place + 3))["gap"]
        uniform = gaps.double() @ world.groups["uniform"]
        assert uniform.max() > uniform.min()
        assert torch.equal(mark["gap"], gaps[uniform.argmin()][None])


def test_no_arm_is_called_so_and_no_run_is_shorter_than_its_turns():
    with pytest.raises(ValueError, match="an arm cannot be called lookahead"):
        arm("lookahead: allocator=pool")
    with pytest.raises(ValueError, match="steps must be a whole number of at least 20, got 10|steps"):
        runner_of(small.comparison(lookahead=True, steps=10))


def test_it_is_a_row_of_the_table_and_is_not_computed_again(tmp_path):
    comparison = small.comparison(*ARMS, lookahead=True)
    rows = run_experiment(comparison, tmp_path)
    own = [row for row in rows if row["arm"] == LOOKAHEAD]
    assert {row["seed"] for row in own} == {0, 1} and {row["step"] for row in own} == {10, 20}
    seen = []
    assert run_experiment(comparison, tmp_path, bar=lambda label: small.counted(seen)) == rows and not seen
    assert table.rows(rows, GROUPS)[-1]["arm"] == LOOKAHEAD
    fewer = small.comparison(*ARMS[:2], lookahead=True)
    names = {StackedRunner(one).lookahead_name(0) for one in (comparison, fewer)}
    assert len(names) == 2


def test_the_share_of_the_lookahead_gain_is_reported(tmp_path):
    rows = run_experiment(small.comparison("rc", "aria-r"), tmp_path)
    greedy = [{**row, "arm": "lookahead", "value": 0.5 * row["value"]} for row in rows if row["arm"] == "rc"]
    half = [{**row, "arm": "half", "value": 0.75 * row["value"]} for row in rows if row["arm"] == "rc"]
    found = {row["arm"]: row["of_lookahead"] for row in table.rows([*rows, *half, *greedy], GROUPS)}
    alone = {row["arm"]: row for row in table.rows([*rows, *half], GROUPS)}
    beside = {row["arm"]: row for row in table.rows([*rows, *half, *greedy], GROUPS)}
    assert alone["half"]["gap.uniform"]["p_adjusted"] == beside["half"]["gap.uniform"]["p_adjusted"]
    assert found["half"] == pytest.approx(0.5) and found["lookahead"] == 1.0 and found["rc"] == 0.0
    assert "of lookahead" in table.text(table.rows([*rows, *half, *greedy], GROUPS), GROUPS)
    assert "of lookahead" not in table.text(table.rows(rows, GROUPS), GROUPS)
