"""Matrices: the search for the best static mix, what is kept, the summary over rows, and its page."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

pytest.importorskip("scipy")
pytest.importorskip("matplotlib")

from aria.bench import matrix, matrix_page, static_search, summary
from aria.bench import records as cells
from aria.bench.arms import STANDARD, Arm
from aria.bench.matrix import ARMS, MATRICES, STATIC, Matrix, run_row, tasks
from aria.bench.running import run_experiment
from aria.bench.settings import MATRIX_NAMES, STANDARD_NAMES
from aria.bench.static_search import GRID, KEPT
from aria.cli import main
from aria.tasks import presets

WORLD = "concepts(groups=3, concepts=2, images=60, width=8)"
FEW = (GRID[0], GRID[4], GRID[6], GRID[11])


def small(**changes):
    values = {"seeds": (5, 6), "grid": FEW, "steps": 8, "exams": 2, "values": {"warmup": 2, "batch_size": 8}}
    return Matrix({"small": presets.task(WORLD)}, **(values | changes))


@pytest.fixture(scope="module")
def row(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrix")
    return folder, run_row(small(), "small", folder)


def test_names_are_known_without_loading_anything():
    assert tuple(arm.name for arm in STANDARD) == STANDARD_NAMES and tuple(MATRICES) == MATRIX_NAMES


def test_the_grid_has_static_mixes_alone():
    assert len({arm.name for arm in GRID}) == len(GRID) == 12
    assert {arm.allocator for arm in GRID} == {"pool", "proportional(power=0, base=0)"}
    known = {replace(arm, name="") for arm in GRID}
    static = next(arm for arm in STANDARD if arm.name == "aria-static")
    assert replace(static, name="", replacement="exponential(5.0)") in known


def test_the_static_mix_is_the_best_of_the_search_on_its_own_seeds(row):
    folder, found = row
    own = small()
    records = run_experiment(own.experiment(own.tasks["small"], FEW, (0, 1)), folder)
    final = {arm.name: {r["seed"]: math.log(r["value"]) for r in records
                        if (r["arm"], r["step"], r["metric"], r["group"]) == (arm.name, 8, "gap", "uniform")}
             for arm in FEW}  # fmt: skip
    survivors = sorted(final, key=lambda name: final[name][0])[: math.ceil(len(FEW) / KEPT)]
    best = min(survivors, key=lambda name: sum(final[name].values()))
    assert found["static"]["name"] == best
    assert found["search"][best] == pytest.approx(sum(final[best].values()) / 2) and len(found["search"]) == len(FEW)
    assert {r["seed"] for r in found["records"]} == {5, 6}
    assert {r["arm"] for r in found["records"]} == {*(arm.name for arm in ARMS), STATIC}


def test_what_is_done_is_not_computed_again(row, monkeypatch):
    folder, found = row
    monkeypatch.setattr("aria.bench.stacked_runner.StackedRunner.compute", lambda *args: pytest.fail("computed again"))
    assert run_row(small(), "small", folder) == found


def test_a_static_mix_that_is_one_of_the_arms_is_not_run_twice(tmp_path):
    twin = next(arm for arm in STANDARD if arm.name == "aria-static")
    own = small(grid=[replace(twin, name="its twin")])
    found = run_row(own, "small", tmp_path)["records"]
    of = {name: [record | {"arm": ""} for record in found if record["arm"] == name] for name in (STATIC, twin.name)}
    assert of[STATIC] == of[twin.name] and len(found) == len(of[STATIC]) * (len(ARMS) + 1)
    run = run_experiment(own.experiment(own.tasks["small"], [*ARMS, replace(twin, name=STATIC)], (5, 6)), tmp_path)
    for a, b in zip(of[STATIC], [record for record in run if record["arm"] == STATIC], strict=True):
        assert a == {**b, "arm": "", "value": pytest.approx(a["value"], rel=1e-4)}


def test_a_mix_that_diverges_on_a_seed_is_not_chosen():
    a, b = Arm("a"), Arm("b")
    rows = {("a", 0): 0.1, ("b", 0): 0.3, ("b", 1): 0.3}

    def run(arms, seeds):
        gaps = [{"arm": arm, "seed": seed, "step": 1, "metric": "gap", "group": "uniform", "value": value}
                for (arm, seed), value in rows.items() if seed in seeds]  # fmt: skip
        own = {"arm": "a", "step": 1, "metric": "own", "group": "images", "value": 1.0}
        return [*gaps, *({**own, "seed": seed} for seed in seeds)]

    chosen, scores = static_search.search([a, b], [0, 1], run)
    assert chosen.name == "a" and static_search.KEPT == 3  # one of two is kept: no second round
    chosen, scores = static_search.search([a, b, *map(Arm, "cde")], [0, 1], lambda arms, seeds: run(arms, seeds) + [
        {"arm": name, "seed": seed, "step": 1, "metric": "gap", "group": "uniform", "value": 9.0}
        for name in "cde" for seed in seeds
    ])  # fmt: skip
    assert chosen.name == "b" and math.isinf(scores["a"])


@pytest.mark.parametrize("changes, complaint", [
    ({"seeds": (1, 2)}, "a mix is not judged on the seeds it was chosen on: 1 is in both"),
    ({"tasks": {}}, "the matrix has no task"),
    ({"arms": ARMS[1:]}, "the arm rc must be among the arms"),
    ({"arms": [*ARMS, Arm(STATIC)]}, "static is the name of the mix that is searched for"),
])  # fmt: skip
def test_impossible_matrices_are_refused(changes, complaint):
    given = {"tasks": {"small": presets.task(WORLD)}} | {key: value for key, value in changes.items() if key == "tasks"}
    with pytest.raises(ValueError, match=re.escape(complaint)):
        Matrix(given["tasks"], **({"seeds": (5, 6)} | {k: v for k, v in changes.items() if k != "tasks"}))


def test_matrices_by_name_and_from_files(tmp_path):
    assert len(MATRICES["emoji"]) == 36 and len(MATRICES["emoji-core"]) == 12
    assert MATRICES["emoji-core"].items() <= MATRICES["emoji"].items()
    (tmp_path / "mine.json").write_text(json.dumps({"a": WORLD, "b": "digits"}))
    assert list(tasks(str(tmp_path / "mine.json"), "a*")) == ["a"]
    (tmp_path / "bad.json").write_text('{"a": 1}')
    for name, only, complaint in (("emoij", "*", "did you mean 'emoji'"), ("emoji", "x", "no row is like 'x'"),
                                  (str(tmp_path / "bad.json"), "*", "must be a JSON object of tasks")):  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(complaint)):
            tasks(name, only)


# -------------------------------------------------------------------------------------------------------------- summary


def records(gaps, group="uniform"):
    """Records of arms whose final gaps are given by seed."""
    return [{"arm": arm, "seed": seed, "step": step, "metric": "gap", "group": group, "value": value * (3 - step)}
            for arm, values in gaps.items() for seed, value in enumerate(values) for step in (1, 2)]  # fmt: skip


def planted(change, tail):
    """A row in which ``aria`` changes the gap by a factor, and that of the tail by another."""
    noise = (1.0, 1.1, 0.9, 1.05, 0.95)
    base = [0.2 * one for one in noise]
    ours = [change * 0.2 * one * (1 + 0.001 * place) for place, one in enumerate(noise)]
    own = records({"rc": base, "aria": ours, "static": [0.9 * one for one in base]})
    ends = [tail * 0.2 * one * (1 + 0.001 * place) for place, one in enumerate(noise)]
    return {"task": "t", "static": {"name": "a mix"}, "search": {}, "records":
            own + records({"rc": base, "aria": ends, "static": base}, "tail")}  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    return {f"row {place}": planted(0.8 if place < 6 else 1.2, 1.1) for place in range(7)}


def test_rows_are_counted_as_better_equal_and_worse(rows):
    found = summary.summary(rows)["rc"]["groups"]
    assert found["uniform"]["aria"] | {"p": 0} == pytest.approx(
        {"median": -19.84, "lowest": -19.84, "highest": 20.24, "better": 6, "equal": 0, "worse": 1, "p": 0}, abs=0.01
    )
    assert found["tail"]["aria"]["worse"] == 7 and found["tail"]["static"]["equal"] == 7
    assert found["tail"]["aria"]["p"] == pytest.approx(2 / 2**7)


def test_p_values_are_adjusted_over_rows_and_arms():
    """A change that is significant in one row alone is not among many."""
    weak = records({"rc": [1.0] * 4, "aria": [0.95, 0.93, 0.98, 0.96], "static": [1.0, 1.1, 0.9, 1.0]})
    row = {"task": "t", "static": {"name": "a mix"}, "search": {}, "records": weak}
    alone = summary.summary({"one": row})["rc"]
    assert 0.001 < alone["rows"]["one"]["aria"]["changes"]["uniform"]["p"] < 0.025
    assert alone["groups"]["uniform"]["aria"]["better"] == 1
    many = summary.summary({str(place): row for place in range(30)})["rc"]
    assert many["groups"]["uniform"]["aria"]["equal"] == 30


def test_who_pays_and_when_a_level_is_reached(rows):
    found = summary.summary(rows)
    assert found["rc"]["rows"]["row 0"]["aria"]["pays"] == ["tail"]
    assert 0 < found["rc"]["rows"]["row 0"]["aria"]["steps"] < 1
    assert found["rc"]["rows"]["row 6"]["aria"]["steps"] is None
    assert found["static"]["rows"]["row 0"]["aria"]["changes"]["uniform"]["mean"] == pytest.approx(-10.9, abs=0.1)


def test_text_and_page_show_every_row(rows):
    shown = summary.text(summary.summary(rows))
    assert "row 6" in shown and "-19.8  6/0/1" in shown and "relative to static" in shown
    own = {"seeds": [0, 1], "machine": {"cores": 2}, "worth": None}
    rows = {label: row | own for label, row in rows.items()}
    rows["row 6"]["worth"] = {"value": 2.5, "low": 1.49, "high": 4.0, "spread": 0.5, "exponent": 0.3}
    result = {"rows": rows, "tuning": [7], "command": "aria <b>", "summary": summary.summary(rows)}
    page = matrix_page.page(result)
    assert "cores 2" in page and "row 6" in page and "aria &lt;b&gt;" in page and "a mix" in page and "(tail)" in page
    assert page.count("2.5 [1.5, 4.0]") == 1


def test_the_worth_of_regions_is_the_median_over_the_runs_that_know_it(tmp_path):
    experiment = small().experiment(small().tasks["small"], [matrix.BASELINE], (0, 1, 2, 3))
    paths = [cells.file(tmp_path, cell.name) for cell in matrix.runner_of(experiment).cells()]
    for path, gain in zip(paths, (0.01, 0.03, 0.08, None), strict=True):
        ranges = {name: {"value": gain, "low": 0.0, "high": 1.0} for name in ("gain", "spread", "exponent")}
        cells.write(path, [], ranges if gain else {"unknown": "too few"})
    found = matrix._worth(experiment, tmp_path)
    assert found == pytest.approx({"value": 3.0, "low": 0.0, "high": 100.0, "spread": 0.03, "exponent": 0.03})
    for path in paths:
        cells.write(path, [])
    assert matrix._worth(experiment, tmp_path) is None


# ---------------------------------------------------------------------------------------------------------- the command


def test_a_matrix_from_the_command_line(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps({"a": WORLD, "b": WORLD.replace("width=8", "width=12")}))
    words = ["bench", "--matrix", str(tmp_path / "mine.json"), "--seeds", "5-6", "--tuning", "0-0", "--steps", "8"]
    words += ["--set", "warmup=2", "--out", str(tmp_path / "out")]
    first = CliRunner().invoke(main, [*words, "--rows", "a"])
    assert first.exit_code == 0, (first.output, first.exception)
    assert first.stdout.splitlines()[1].split() == ["aria", "aria-static", "static"]
    both = CliRunner().invoke(main, [*words, "--rows", "b", "--variants", "softmax"])
    assert both.exit_code == 0 and "over 2 rows" in both.stdout, both.output
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(result["rows"]) == ["a", "b"] and (tmp_path / "out" / "report.html").is_file()
    arms = {label: {r["arm"] for r in row["records"]} for label, row in result["rows"].items()}
    assert arms["b"] - arms["a"] == {"softmax"}
    mine = [*words, "--rows", "b", "--variants", "softmax: allocator=proportional"]
    other = CliRunner().invoke(main, mine)
    assert other.exit_code == 2 and "holds another arm called softmax: choose another name or folder" in other.stderr
    later = CliRunner().invoke(main, [*words, "--rows", "b", "--seeds", "7-7"])
    assert later.exit_code == 0, later.output
    row = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]["b"]
    assert row["seeds"] == [5, 6, 7] and {r["seed"] for r in row["records"] if r["arm"] == "softmax"} == {5, 6, 7}
    other = CliRunner().invoke(main, [*words, "--set", "batch_size=8"])
    assert other.exit_code == 2 and "holds a matrix of another values: choose another folder" in other.stderr
    (tmp_path / "mine.json").write_text(json.dumps({"a": "digits"}))
    other = CliRunner().invoke(main, words)
    assert other.exit_code == 2 and "holds another task with the label 'a'" in other.stderr
    for more, sentence in ((["--task", "digits"], "--task is not for a matrix"), (["--quick"], "--quick is not"),
                           (["--tuning", "x"], "--tuning must be a number of seeds")):  # fmt: skip
        refused = CliRunner().invoke(main, [*words, *more])
        assert refused.exit_code == 2 and sentence in refused.stderr
