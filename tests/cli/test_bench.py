"""``aria bench``: what it prints and keeps, that it goes on, and how it answers mistakes."""

from __future__ import annotations

import json
import shlex
import shutil

import pytest
import torch
from click.testing import CliRunner

pytest.importorskip("scipy")
pytest.importorskip("matplotlib")

from aria.cli import main
from tests.bench.small import GREEDY

WORLD = "concepts(groups=3, concepts=2, images=60, width=8)"
SMALL = ("--task", WORLD, "--steps", "8", "--seeds", "2")


def run(*arguments):
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


def refused(result, sentence):
    """One line, no traceback, exit code 2."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    last = result.stderr.rstrip("\n").splitlines()[-1]
    assert last.startswith("Error: ") and sentence in last, last
    assert "Traceback" not in result.output


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """rc and a user's allocator from a file, compared once: the folder, what was printed, and the file."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "greedy.py").write_text(GREEDY)
    spec = f"{folder / 'greedy.py'}:Greedy(top=3)"
    result = run(*SMALL, "--no-standard", "--variants", spec, "--out", folder / "out", "--plot", folder / "p.svg")
    assert result.exit_code == 0, (result.output, result.exception)
    return folder, result, spec


def test_ones_own_allocator_enters_the_table(mine):
    folder, result, spec = mine
    lines = result.stdout.splitlines()
    assert lines[0].split()[:4] == ["arm", "uniform", "pool", "head"]
    assert [line.split()[0] for line in lines[1:3]] == ["rc", spec.split("(")[0] + "(top=3)"]
    assert lines[-2:] == [str(folder / "out" / "report.html"), str(folder / "out" / "results.json")]
    told = json.loads((folder / "out" / "results.json").read_text())
    assert [row["arm"] for row in told["table"]] == ["rc", spec]
    assert spec.split("/")[-1] in (folder / "out" / "report.html").read_text()


def test_without_a_terminal_progress_is_lines(mine, tmp_path):
    """And what has ended already is no work: no line, nor the heading of a bar without one."""
    folder, result, spec = mine
    said = result.stderr.splitlines()
    assert said[0] == "steps: 2 of 16 (12 %)" and said[-1].startswith("steps: 16 of 16 (100 %)")
    assert all(line.startswith("steps: ") for line in said)
    shutil.copytree(folder / "out", tmp_path / "out")
    told = (*SMALL, "--no-standard", "--variants", spec, "--out", tmp_path / "out")
    assert run(*told).stderr == ""
    shutil.rmtree(tmp_path / "out" / "cells")
    quiet = run(*told, "--quiet")
    assert quiet.exit_code == 0 and quiet.stderr == "" and "report.html" in quiet.stdout


def test_another_baseline_costs_no_run(mine, tmp_path):
    shutil.copytree(mine[0] / "out", tmp_path / "out")
    folder, spec = tmp_path, mine[2]
    before = {path: path.stat().st_mtime_ns for path in (folder / "out" / "cells").iterdir()}
    again = run(*SMALL, "--no-standard", "--variants", spec, "--out", folder / "out", "--baseline", spec, "--json", "-")
    assert again.exit_code == 0, (again.output, again.exception)
    told = json.loads(again.stdout)
    p = {row["arm"]: row["gap.uniform"]["p_adjusted"] for row in told["table"]}
    assert told["baseline"] == spec and {row["baseline"] for row in told["table"]} == {spec}
    assert p[spec] is None
    assert {path: path.stat().st_mtime_ns for path in (folder / "out" / "cells").iterdir()} == before


def test_the_result_says_how_it_was_made(mine):
    folder, _, spec = mine
    told = json.loads((folder / "out" / "results.json").read_text())
    words = shlex.split(told["command"])
    assert words[:4] == ["aria", "bench", "--task", WORLD] and words[words.index("--variants") + 1] == spec
    assert "--no-standard" in words and "--setting" not in words
    assert told["seeds"] == [0, 1] and told["recipe"]["steps"] == 8
    assert told["setting"] == {"replacement": "exponential(5.0)", "weighting": "uniform"}


def test_a_plot_is_written(mine):
    assert "<svg" in (mine[0] / "p.svg").read_text()


def test_the_same_command_computes_nothing_and_says_the_same(mine):
    folder, first, spec = mine
    cells = {path: path.stat().st_mtime_ns for path in (folder / "out" / "cells").iterdir()}
    again = run(*SMALL, "--no-standard", "--variants", spec, "--out", folder / "out", "--json", "-")
    assert {path: path.stat().st_mtime_ns for path in (folder / "out" / "cells").iterdir()} == cells
    assert len(cells) == 4
    told = json.loads(again.stdout)
    assert told["table"] == json.loads((folder / "out" / "results.json").read_text())["table"]
    assert again.stdout.count("report.html") == 0 and "report.html" in first.stdout


def test_more_seeds_keep_those_that_are_there(mine):
    folder, _, spec = mine
    cells = {path: path.stat().st_mtime_ns for path in (folder / "out" / "cells").iterdir()}
    told = ("--task", WORLD, "--steps", "8", "--no-standard", "--variants", spec, "--out", folder / "out")
    result = run(*told, "--seeds", "1-2", "--json", folder / "more.json")
    assert result.exit_code == 0, result.output
    assert json.loads((folder / "more.json").read_text())["seeds"] == [1, 2]
    kept = {path: path.stat().st_mtime_ns for path in (folder / "out" / "cells").iterdir()}
    assert {path: kept[path] for path in cells} == cells and len(kept) == 6


def options(*more):
    """What a call asks for, without running it."""
    from aria.cli.commands import bench

    context = bench.command.make_context("bench", [str(word) for word in more])
    asked = ("spec", "seeds", "steps", "quick", "variants", "standard", "no_standard", "setting", "lookahead", "device")
    return bench._comparison(**{name: context.params[name] for name in asked})


def test_what_is_compared_unless_told():
    from aria.bench.arms import STANDARD
    from aria.tasks import Concepts

    comparison = options()
    assert comparison.task == Concepts() and list(comparison.seeds) == list(range(8))
    assert comparison.arms == list(STANDARD) and comparison.recipe.steps == 2000
    assert options("--task", "long").recipe.steps == 4000
    unet = options("--task", "unet")
    assert (unet.task.side, unet.task.network, unet.recipe.steps) == (16, "unet", 10_000)


def test_models_compute_where_they_are_told_to(mine, monkeypatch):
    """And where they did is in the result."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert options().device == options("--device", "cuda").device == "cuda"
    assert options("--device", "cpu").device == "cpu"
    monkeypatch.undo()
    told = json.loads((mine[0] / "out" / "results.json").read_text())["machine"]
    assert told["device"] == ("cuda" if torch.cuda.is_available() else "cpu")


def test_quick_is_smaller_and_gives_way():
    from aria.tasks import Digits

    quick = options("--quick")
    assert quick.recipe.steps == 800 and list(quick.seeds) == [0, 1, 2] and quick.task.groups == 8
    given = options("--quick", "--task", "digits", "--seeds", "4-7", "--steps", "90")
    assert given.task == Digits() and list(given.seeds) == [4, 5, 6, 7] and given.recipe.steps == 90
    assert options("--quick", "--task", "concepts(steps=500)").recipe.steps == 500


def test_standard_arms_are_chosen_by_name_and_rc_is_always_there():
    assert [arm.name for arm in options("--arms", "oracle, paired").arms] == ["paired", "rc", "oracle"]
    assert [arm.name for arm in options("--no-standard").arms] == ["rc"]
    told = options("--arms", "rc", "--variants", "softmax", "--variants", "b: floor=0.5", "--setting", "tuned")
    assert [arm.name for arm in told.arms] == ["rc", "softmax", "b"]
    assert told.setting.weighting == "velocity"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--task", "digit"), "unknown task 'digit' (did you mean 'digits'?); there are: default, "),
        (("--task", "concepts(skw=0)"), "(did you mean 'skew'?)"),
        (("--task", "concepts(skew=-1)"), "skew must be non-negative and finite, got -1"),
        (("--variants", "sofmax"), "unknown allocator 'sofmax' (did you mean 'softmax'?)"),
        (("--variants", "nowhere.py:Greedy"), "there is no file 'nowhere.py'"),
        (("--variants", "a: flor=0.1"), "arm 'a': cannot read 'flor=0.1' (did you mean 'floor'?)"),
        (("--variants", "a: floor=2"), "arm 'a': floor must lie in [0, 1], got 2.0"),
        (("--variants", "rc"), "arms need names of their own, got rc more than once"),
        (("--variants", "softmax", "--variants", "softmax"), "got softmax more than once"),
        (("--arms", "rc,arai"), "unknown standard arm 'arai' (did you mean 'aria'?); there are: paired, rc, "),
        (("--arms", "rc", "--no-standard"), "--no-standard and --arms contradict each other"),
        (("--setting", "best"), "unknown --setting 'best'; there are: rc, tuned"),
        (("--setting", "tunde"), "unknown --setting 'tunde' (did you mean 'tuned'?)"),
        (("--baseline", "nobody"), "unknown --baseline 'nobody'; there are: paired, rc, "),
        (("--baseline", "orcale"), "unknown --baseline 'orcale' (did you mean 'oracle'?); there are: paired, rc, "),
        (("--arms", "rc", "--baseline", "aria"), "unknown --baseline 'aria'; there are: rc"),
        (("--lookahead", "--task", "shapes"), "--lookahead is for tasks in memory"),
        (("--lookahead", "--steps", "12"), "steps must be a whole number of at least 20, got 12"),
        (("--variants", "lookahead: allocator=pool"), "an arm cannot be called lookahead"),
        (("--seeds", "5-2"), "--seeds must be a number of seeds such as 8, or a range such as 0-7, got '5-2'"),
        (("--device", "tpu"), "device must be 'cpu' or 'cuda', got 'tpu'"),
        (("--device", "cuda"), "device 'cuda': there is no CUDA device here"),
        (("--seeds", "0"), "--seeds must be"),
        (("--seeds", "-1"), "--seeds must be"),
        (("--seeds", "a"), "--seeds must be"),
        (("--steps", "3"), "steps must be a whole number of at least 8, got 3"),
        (("--plot", "p.txt"), "--plot must end in .png or .svg or .pdf, got 'p.txt'"),
        (("--plot", "nowhere/p.png"), "there is no folder nowhere to write p.png to"),
        (("--json", "nowhere/r.json"), "there is no folder nowhere to write r.json to"),
        (("--json", "."), ". is a folder, give a file"),
        (("--out", "taken"), "--out must be a folder, taken is a file"),
        (("--out", "taken/in"), "taken/in: Not a directory"),
    ],
)
def test_mistakes_are_answered_in_one_line_before_anything_is_trained(arguments, sentence, tmp_path, monkeypatch):
    from aria.bench.compare import Comparison

    def begun(*args, **told):
        raise AssertionError("training was begun")

    monkeypatch.setattr(Comparison, "run", begun)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    refused(run(*arguments), sentence)


def test_an_allocator_that_gives_nonsense_is_named(tmp_path):
    """As soon as it is asked, after the warm-up."""
    from aria.bench.stacked import Recipe

    (tmp_path / "never.py").write_text(GREEDY.replace("return mass *", "return -mass *"))
    steps = Recipe().warmup * Recipe().every + 2 * Recipe().every
    told = ("--task", WORLD, "--seeds", "1", "--steps", steps, "--no-standard", "--out", tmp_path / "out")
    refused(run(*told, "--variants", f"never: allocator={tmp_path / 'never.py'}:Greedy; floor=0.0"), "Greedy")


# ------------------------------------------------------------------------------------------------------- tasks on disk


@pytest.fixture
def on_disk(monkeypatch):
    """A user's own task, whatever word it is asked for by."""
    from aria.tasks import presets
    from aria.tasks.folder import Folder

    folder = Folder(teacher="teacher", prompts="pool.jsonl", held_out="asked.jsonl")
    monkeypatch.setattr(presets, "task", lambda text: folder)
    return folder


def test_tasks_on_disk_are_queued_without_the_oracle(on_disk):
    from aria.bench.queue import Queue

    queue = options("--task", "folder(…)", "--steps", "50", "--seeds", "3", "--variants", "softmax")
    assert isinstance(queue, Queue) and queue.task is on_disk
    names = [arm.name for arm in queue.arms]
    assert names[:2] == ["paired", "rc"] and names[-1] == "softmax" and "oracle" not in names
    assert queue.values == {"max_train_steps": 50} and list(queue.seeds) == [0, 1, 2]
    assert options("--task", "folder(…)").values == {}
    assert options("--task", "folder(…)", "--device", "cpu").device == "cpu"
    refused(run("--task", "folder(…)", "--arms", "rc,oracle", "--steps", "8"), "unknown standard arm 'oracle'")


@pytest.mark.usefixtures("on_disk")
def test_metrics_and_groups_of_ones_own_have_a_place(tmp_path, monkeypatch):
    """Groups without head and tail, and a metric that is no error: reported, and not compared in per cent."""
    from aria.bench.queue import Queue

    def records(queue, folder, *, bar, **told):
        with bar("runs") as progress:
            progress(4, 4)

        def row(arm, seed, step, metric, group, value):
            return {"arm": arm.name, "seed": seed, "step": step, "metric": metric, "group": group, "value": value}

        runs = [(arm, seed, step) for arm in queue.arms for seed in queue.seeds for step in (4, 8)]
        told = [row(*one, "gap", group, 1.0 + one[1] / one[2]) for one in runs for group in ("uniform", "mine")]
        return told + [row(*one, "right", "uniform", 0.0) for one in runs]

    monkeypatch.setattr(Queue, "run", records)
    result = run("--task", "folder(…)", "--arms", "rc,paired", "--seeds", "2", "--out", tmp_path / "out")
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stderr == "runs: 4 of 4 (100 %)\n"
    assert result.stdout.splitlines()[0].split() == ["arm", "uniform", "mine", "steps"]
    told = json.loads((tmp_path / "out" / "results.json").read_text())
    assert told["groups"] == ["uniform", "mine"] and told["table"][0]["right.uniform"] == {"value": 0.0}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "right.uniform" in page and "Head against tail" not in page


@pytest.mark.usefixtures("on_disk")
def test_a_run_that_failed_is_told_in_one_line(tmp_path, monkeypatch):
    from aria.bench.queue import CellFailed, Queue

    def fails(queue, folder, **told):
        raise CellFailed("arm rc on seed 0 ended with 1: no room")

    monkeypatch.setattr(Queue, "run", fails)
    result = run("--task", "folder(…)", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "Error: arm rc on seed 0 ended with 1: no room"
