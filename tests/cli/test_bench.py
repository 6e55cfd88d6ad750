"""``aria bench``: what it prints and keeps, that it resumes, and how it reports mistakes."""

from __future__ import annotations

import json
import shlex
import shutil

import pytest
import torch
from click.testing import CliRunner

pytest.importorskip("scipy")
pytest.importorskip("matplotlib")

from aria.bench.running import runner_of
from aria.cli import main
from tests.bench.forked import ForkedCell
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
def compared(tmp_path_factory):
    """rc and a user's allocator from a file, compared once: the folder, what was printed, and the file."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "greedy.py").write_text(GREEDY)
    spec = f"{folder / 'greedy.py'}:Greedy(top=3)"
    result = run(*SMALL, "--no-standard", "--variants", spec, "--out", folder / "out", "--plot", folder / "p.svg")
    assert result.exit_code == 0, (result.output, result.exception)
    return folder, result, spec


def test_ones_own_allocator_enters_the_table(compared):
    folder, result, spec = compared
    lines = result.stdout.splitlines()
    assert lines[0].split()[:4] == ["arm", "uniform", "pool", "head"]
    assert [line.split()[0] for line in lines[1:3]] == ["rc", spec.split("(")[0] + "(top=3)"]
    assert lines[-2:] == [str(folder / "out" / "report.html"), str(folder / "out" / "results.json")]
    results = json.loads((folder / "out" / "results.json").read_text())
    assert [row["arm"] for row in results["table"]] == ["rc", spec]
    assert spec.split("/")[-1] in (folder / "out" / "report.html").read_text()


def test_without_a_terminal_progress_is_lines(compared, tmp_path):
    """Finished runs are no work: no line is printed for them, nor the heading of an empty bar."""
    folder, result, spec = compared
    lines = result.stderr.splitlines()
    assert lines[0] == "steps: 2 of 16 (12 %)" and lines[-1].startswith("steps: 16 of 16 (100 %)")
    assert all(line.startswith("steps: ") for line in lines)
    shutil.copytree(folder / "out", tmp_path / "out")
    arguments = (*SMALL, "--no-standard", "--variants", spec, "--out", tmp_path / "out")
    assert run(*arguments).stderr == ""
    shutil.rmtree(tmp_path / "out" / "cells")
    quiet = run(*arguments, "--quiet")
    assert quiet.exit_code == 0 and quiet.stderr == "" and "report.html" in quiet.stdout


def test_another_baseline_costs_no_run(compared, tmp_path):
    shutil.copytree(compared[0] / "out", tmp_path / "out")
    folder, spec = tmp_path, compared[2]
    before = {path: path.stat().st_mtime_ns for path in (folder / "out" / "cells").iterdir()}
    again = run(*SMALL, "--no-standard", "--variants", spec, "--out", folder / "out", "--baseline", spec, "--json", "-")
    assert again.exit_code == 0, (again.output, again.exception)
    results = json.loads(again.stdout)
    p = {row["arm"]: row["gap.uniform"]["p_adjusted"] for row in results["table"]}
    assert results["baseline"] == spec and {row["baseline"] for row in results["table"]} == {spec}
    assert p[spec] is None
    assert {path: path.stat().st_mtime_ns for path in (folder / "out" / "cells").iterdir()} == before


def test_the_result_records_how_it_was_made(compared):
    folder, _, spec = compared
    results = json.loads((folder / "out" / "results.json").read_text())
    words = shlex.split(results["command"])
    assert words[:4] == ["aria", "bench", "--task", WORLD] and words[words.index("--variants") + 1] == spec
    assert "--no-standard" in words and "--setting" not in words
    assert results["seeds"] == [0, 1] and results["recipe"]["steps"] == 8
    assert results["setting"] == {"replacement": "exponential(5.0)", "weighting": "uniform"}


def test_a_plot_is_written(compared):
    assert "<svg" in (compared[0] / "p.svg").read_text()


def test_the_same_command_again_computes_nothing_and_prints_the_same(compared):
    folder, first, spec = compared
    cells = {path: path.stat().st_mtime_ns for path in (folder / "out" / "cells").iterdir()}
    again = run(*SMALL, "--no-standard", "--variants", spec, "--out", folder / "out", "--json", "-")
    assert {path: path.stat().st_mtime_ns for path in (folder / "out" / "cells").iterdir()} == cells
    assert len(cells) == 4
    results = json.loads(again.stdout)
    assert results["table"] == json.loads((folder / "out" / "results.json").read_text())["table"]
    assert again.stdout.count("report.html") == 0 and "report.html" in first.stdout


def test_adding_seeds_keeps_finished_runs(compared):
    folder, _, spec = compared
    cells = {path: path.stat().st_mtime_ns for path in (folder / "out" / "cells").iterdir()}
    arguments = ("--task", WORLD, "--steps", "8", "--no-standard", "--variants", spec, "--out", folder / "out")
    result = run(*arguments, "--seeds", "1-2", "--json", folder / "more.json")
    assert result.exit_code == 0, result.output
    assert json.loads((folder / "more.json").read_text())["seeds"] == [1, 2]
    kept = {path: path.stat().st_mtime_ns for path in (folder / "out" / "cells").iterdir()}
    assert {path: kept[path] for path in cells} == cells and len(kept) == 6


def options(*more):
    """The experiment that a command line configures, without running it."""
    from aria.cli.commands import bench

    context = bench.command.make_context("bench", [str(word) for word in more])
    names = ("spec", "seeds", "steps", "quick", "variants", "standard", "no_standard", "setting", "lookahead", "device")
    return bench._experiment(**{name: context.params[name] for name in names})


def test_the_default_experiment():
    from aria.bench.arms import STANDARD
    from aria.tasks import Concepts

    comparison = options()
    assert comparison.task == Concepts() and list(comparison.seeds) == list(range(8))
    assert comparison.arms == list(STANDARD) and runner_of(comparison).steps == 2000
    assert runner_of(options("--task", "long")).steps == 4000
    unet = options("--task", "unet")
    assert (unet.task.side, unet.task.network, runner_of(unet).steps) == (16, "unet", 10_000)


def test_models_run_on_the_given_device(compared, monkeypatch):
    """And the result records the device."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert options().device == options("--device", "cuda").device == "cuda"
    assert options("--device", "cpu").device == "cpu"
    monkeypatch.undo()
    machine = json.loads((compared[0] / "out" / "results.json").read_text())["machine"]
    assert machine["device"] == ("cuda" if torch.cuda.is_available() else "cpu")


def test_quick_is_smaller_and_gives_way():
    from aria.tasks import Digits

    quick = options("--quick")
    assert runner_of(quick).steps == 800 and list(quick.seeds) == [0, 1, 2] and quick.task.groups == 8
    given = options("--quick", "--task", "digits", "--seeds", "4-7", "--steps", "90")
    assert given.task == Digits() and list(given.seeds) == [4, 5, 6, 7] and runner_of(given).steps == 90
    assert runner_of(options("--quick", "--task", "concepts(steps=500)")).steps == 500


def test_standard_arms_are_chosen_by_name_and_rc_is_always_there():
    assert [arm.name for arm in options("--arms", "oracle, paired").arms] == ["paired", "rc", "oracle"]
    assert [arm.name for arm in options("--no-standard").arms] == ["rc"]
    experiment = options("--arms", "rc", "--variants", "softmax", "--variants", "b: floor=0.5", "--setting", "tuned")
    assert [arm.name for arm in experiment.arms] == ["rc", "softmax", "b"]
    assert experiment.setting.weighting == "velocity"


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
        (("--variants", "rc"), "arms must be different from one another, got rc more than once"),
        (("--variants", "softmax", "--variants", "softmax"), "got softmax more than once"),
        (("--arms", "rc,arai"), "unknown standard arm 'arai' (did you mean 'aria'?); there are: paired, rc, "),
        (("--arms", "rc", "--no-standard"), "--no-standard and --arms contradict each other"),
        (("--setting", "best"), "unknown --setting 'best'; there are: rc, tuned"),
        (("--setting", "tunde"), "unknown --setting 'tunde' (did you mean 'tuned'?)"),
        (("--baseline", "nobody"), "unknown --baseline 'nobody'; there are: paired, rc, "),
        (("--baseline", "orcale"), "unknown --baseline 'orcale' (did you mean 'oracle'?); there are: paired, rc, "),
        (("--arms", "rc", "--baseline", "aria"), "unknown --baseline 'aria'; there are: rc"),
        (("--lookahead", "--task", "shapes"), "lookahead is for tasks in memory"),
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
def test_mistakes_are_refused_in_one_line_before_anything_is_trained(arguments, sentence, tmp_path, monkeypatch):
    from aria.bench import running

    def begun(*args, **kwargs):
        raise AssertionError("training was begun")

    monkeypatch.setattr(running, "run_experiment", begun)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    refused(run(*arguments), sentence)


def test_an_allocator_that_gives_nonsense_is_named(tmp_path):
    """As soon as it is called, after the warm-up."""
    from aria.bench.stacked import Recipe

    (tmp_path / "never.py").write_text(GREEDY.replace("return mass *", "return -mass *"))
    steps = Recipe().warmup * Recipe().every + 2 * Recipe().every
    arguments = ("--task", WORLD, "--seeds", "1", "--steps", steps, "--no-standard", "--out", tmp_path / "out")
    refused(run(*arguments, "--variants", f"never: allocator={tmp_path / 'never.py'}:Greedy; floor=0.0"), "Greedy")


# ------------------------------------------------------------------------------------------------------- tasks on disk


@pytest.fixture
def on_disk(monkeypatch):
    """A user's own task, whatever it is called on the command line."""
    from aria.tasks import presets
    from aria.tasks.folder import Folder

    folder = Folder(teacher="teacher", prompts="pool.jsonl", held_out="asked.jsonl")
    monkeypatch.setattr(presets, "task", lambda text: folder)
    return folder


def test_tasks_on_disk_are_compared_without_the_oracle(on_disk):
    from aria.bench.process_runner import ProcessRunner

    made = options("--task", "folder(…)", "--steps", "50", "--seeds", "3", "--variants", "softmax")
    assert isinstance(runner_of(made), ProcessRunner) and made.task is on_disk
    names = [arm.name for arm in made.arms]
    assert names[:2] == ["paired", "rc"] and names[-1] == "softmax" and "oracle" not in names
    assert runner_of(made).steps == 50 and list(made.seeds) == [0, 1, 2]
    assert runner_of(options("--task", "folder(…)")).steps == 1000
    quick = options("--task", "folder(…)", "--quick")
    assert runner_of(quick).steps == 100 and list(quick.seeds) == [0, 1] and quick.exams == 2
    assert [arm.name for arm in quick.arms] == ["rc", "aria", "aria-static"]
    assert options("--task", "folder(…)", "--device", "cpu").device == "cpu"
    refused(run("--task", "folder(…)", "--arms", "rc,oracle", "--steps", "8"), "unknown standard arm 'oracle'")


@pytest.mark.usefixtures("on_disk")
def test_metrics_and_groups_of_ones_own_have_a_place(tmp_path, monkeypatch):
    """Groups without head and tail, and a metric that is no error: reported, but without relative changes (%)."""
    from aria.bench import running

    def records(experiment, folder, *, bar, **kwargs):
        with bar("runs") as progress:
            progress(4, 4)

        def row(arm, seed, step, metric, group, value):
            return {"arm": arm.name, "seed": seed, "step": step, "metric": metric, "group": group, "value": value}

        runs = [(arm, seed, step) for arm in experiment.arms for seed in experiment.seeds for step in (4, 8)]
        rows = [row(*one, "gap", group, 1.0 + one[1] / one[2]) for one in runs for group in ("uniform", "mine")]
        return rows + [row(*one, "right", "uniform", 0.0) for one in runs]

    monkeypatch.setattr(running, "run_experiment", records)
    result = run("--task", "folder(…)", "--arms", "rc,paired", "--seeds", "2", "--out", tmp_path / "out")
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stderr == "runs: 4 of 4 (100 %)\n"
    assert result.stdout.splitlines()[0].split() == ["arm", "uniform", "mine", "steps"]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["groups"] == ["uniform", "mine"] and results["table"][0]["right.uniform"] == {"value": 0.0}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "right.uniform" in page and "Head against tail" not in page


@pytest.mark.usefixtures("on_disk")
def test_a_failed_run_is_reported_in_one_line(tmp_path, monkeypatch):
    from aria.bench import running
    from aria.bench.process_runner import CellFailed

    def fails(experiment, folder, **kwargs):
        raise CellFailed("arm rc on seed 0 ended with 1: no room")

    monkeypatch.setattr(running, "run_experiment", fails)
    result = run("--task", "folder(…)", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "Error: arm rc on seed 0 ended with 1: no room"


MINE = """
from dataclasses import dataclass
from pathlib import Path

import torch

from aria.tasks import OnDisk, Questions


@dataclass(frozen=True)
class Mine(OnDisk):
    teacher: str
    images: int = 4

    def prepare(self, place, bar, device):
        place.mkdir(parents=True, exist_ok=True)
        rows = [f'{{"prompt": "{kind} {i}", "concept": "{kind}"}}' for kind in ("cat", "dog") for i in range(3)]
        (place / "pool.jsonl").write_text("\\n".join(rows) + "\\n")

    def settings(self, place):
        return {
            "pretrained_model_name_or_path": self.teacher,
            "student": self.teacher,
            "prompts": str(place / "pool.jsonl"),
            "train_data_dir": "",
            "num_images": self.images,
            "num_inference_steps": 2,
            "train_batch_size": 2,
            "objective": ("output",),
            "max_train_steps": 2,
        }

    def questions(self, place):
        return Questions(["cat 9", "dog 9"], {"uniform": torch.full((2,), 0.5, dtype=torch.float64)})

    def regions(self):
        return "labels('concept')"
"""
"""A user's own task on disk, as a file."""


@pytest.mark.slow
def test_a_task_of_ones_own_on_disk_is_run_from_its_file(sd_folder, tmp_path, monkeypatch):
    """Two arms, each in a process that loads the task from the file, though it was named relative to this folder."""
    monkeypatch.setattr("aria.bench.process_runner.subprocess.Popen", ForkedCell)
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    spec = f"mine.py:Mine(teacher={str(sd_folder)!r})"
    words = ("--task", spec, "--seeds", "1", "--device", "cpu", "--arms", "rc,paired", "--jobs", "2", "--out", "out")
    result = run(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    assert [line.split()[0] for line in result.stdout.splitlines()[1:3]] == ["paired", "rc"]
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["task"].startswith("mine.py:Mine(") and str(tmp_path / "mine.py") not in found["task"]
    assert {row["step"] for row in found["records"]} == {1, 2} and found["groups"] == ["uniform"]
    cells = [json.loads(path.read_text()) for path in tmp_path.glob("out/cells/cells/*/cell-*.json")]
    assert len(cells) == 2 and all(cell["task"].startswith(f"{tmp_path / 'mine.py'}:Mine(") for cell in cells)
    assert {path.stem for path in tmp_path.glob("out/cells/*.json")} == names(*words[:-2])


def names(*arguments):
    return {cell.name for cell in runner_of(options(*arguments)).cells()}


def test_edited_code_of_a_task_on_disk_is_another_task(tmp_path, monkeypatch):
    found = []
    for folder, source in (("one", MINE), ("same", MINE), ("edited", MINE.replace("cat 9", "cat 8"))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(source)
        monkeypatch.chdir(tmp_path / folder)
        found.append(names("--task", "mine.py:Mine(teacher='t')", "--arms", "rc", "--seeds", "2", "--device", "cpu"))
    assert found[0] == found[1] and found[0].isdisjoint(found[2]) and len(found[0]) == 2


@pytest.mark.parametrize("given, sentence", [
    ("learning_rate", "--set must be NAME=VALUE, got 'learning_rate'"),
    ("lerning_rate=1", "did you mean 'learning_rate'?); in memory there are: learning_rate,"),
    ("optimiser=sgd", "optimiser must be an AdamW, got 'sgd'"),
    ("learning_rate=fast", "learning_rate must be positive and finite, got 'fast'"),
    ("batch_size=0", "batch_size must be a whole number of at least 1, got 0"),
])  # fmt: skip
def test_settings_of_the_training_are_checked(given, sentence, tmp_path):
    refused(run(*SMALL, "--set", given, "--out", tmp_path), sentence)


def test_settings_of_the_training_are_shared_by_all_arms(tmp_path):
    result = run(*SMALL, "--arms", "rc", "--set", "batch_size=8", "--set", "learning_rate=0.5", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "results.json").read_text())["recipe"]
    assert found["batch_size"] == 8 and found["optimiser"]["learning_rate"] == 0.5
