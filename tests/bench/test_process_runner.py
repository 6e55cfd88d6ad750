"""Comparisons on disk: a process for each run, killed and continued, and the records they leave."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import aria
from aria import files, registry
from aria.bench import cell as cells
from aria.bench import records
from aria.bench.arms import STANDARD, Arm
from aria.bench.experiment import Experiment
from aria.bench.process_runner import CellFailed, ProcessRunner, _without_weights, _work
from aria.bench.running import run_experiment, runner_of
from aria.bench.settings import SETTINGS, Setting
from aria.distill.data.prompt_files import read_prompts
from aria.distill.settings.config import Config
from aria.tasks.folder import Folder
from aria.tasks.shapes import Shapes
from tests.distill import pipelines
from tests.processes import Forked, script

ROOT = Path(__file__).resolve().parents[2]
RC, EVEN, ARIA = (next(arm for arm in STANDARD if arm.name == name) for name in ("rc", "condition-uniform", "aria-q"))


def quiet(label):
    return nullcontext(lambda done, total: None)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A teacher in Stable Diffusion's shape, six prompts and three held out."""
    folder = tmp_path_factory.mktemp("models")
    pipelines.save_sd(folder / "teacher")
    pool = [{"prompt": f"{kind} {i}", "concept": kind, "weight": 1 + i} for kind in ("cat", "dog") for i in range(3)]
    held = [{"prompt": "cat 9", "group": "a"}, {"prompt": "dog 9", "group": "b"}, {"prompt": "dog 8", "group": "b"}]
    for name, rows in (("pool", pool), ("held", held)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Folder(
        teacher=str(folder / "teacher"),
        prompts=str(folder / "pool.jsonl"),
        held_out=str(folder / "held.jsonl"),
        num_images=4,
        partitioner="labels('concept')",
        steps=2,
        guidance=1.5,
    )


ALWAYS = Setting("constant(1.0)", "uniform")
"""Every condition is replaced, so that arms differ after four steps."""
VALUES = {"train_batch_size": 2, "warmup": 1, "learning_rate": 1e-2, "objective": ("output",)}


def comparison(task, *arms, seeds=(0,), steps=4, **values):
    return Experiment(task, arms or (RC,), seeds, ALWAYS, steps=steps, values=VALUES | values, exams=2)


def name(comparison, arm, seed):
    return runner_of(comparison).name(arm, seed)


def in_this_process(patch):
    """Let cells be done in this process, which imports nothing again; returns the arms in the order they are done."""
    done = []

    def work(folders, jobs, progress):
        for folder in folders:
            assert cells.run_cell(folder)
            done.append(cells.CellSettings.read(folder).arm)

    patch.setattr("aria.bench.process_runner._work", work)
    return done


@pytest.fixture
def here(monkeypatch):
    return in_this_process(monkeypatch)


@pytest.fixture(scope="module")
def compared(task, tmp_path_factory):
    """Two arms, compared: the folder, the records, and the order in which the arms were done."""
    folder = tmp_path_factory.mktemp("compared") / "bench"
    with pytest.MonkeyPatch.context() as patch:
        done = in_this_process(patch)
        return folder, run_experiment(comparison(task, RC, EVEN), folder), done


def prepared(compared, folder):
    """A folder with everything that runs share, so that it is not made again; and with no run."""
    shutil.copytree(compared[0] / "tasks", folder / "tasks")
    return folder


def test_runs_on_the_cpu_do_not_see_a_gpu(task, tmp_path, monkeypatch):
    """Whatever the machine has. The device is part of the key of a run, since it draws the random numbers."""
    seen, rows = [], [{"arm": "rc", "seed": 0, "step": 4, "metric": "gap", "group": "a", "value": 0.5}]
    records.write(tmp_path / "made", rows)

    class Process(subprocess.Popen):
        def __init__(self, command, env, **kwargs):
            seen.append(env.get("CUDA_VISIBLE_DEVICES"))
            done = ["-c", "import shutil, sys; shutil.copy(*sys.argv[1:])", tmp_path / "made"]
            super().__init__([sys.executable, *done, cells.CellSettings.read(Path(command[3])).result], **kwargs)

    monkeypatch.setattr("aria.bench.process_runner.subprocess.Popen", Process)
    monkeypatch.setattr(ProcessRunner, "_prepare", lambda *args: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    made = [replace(comparison(task), device=name) for name in ("cpu", "cuda", None)]
    for place, each in enumerate(made):
        assert run_experiment(each, tmp_path / str(place)) == rows
    assert seen == ["", "0", "0"]
    cpu, cuda, default = (name(each, RC, 0) for each in made)
    assert cpu != cuda == default


def test_arms_become_settings_of_the_engine(task, tmp_path):
    arms = comparison(task, RC, EVEN, ARIA)
    configs = [Config().with_values(runner_of(arms).settings(arm, 7, tmp_path)) for arm in arms.arms]
    assert [config.allocation.allocator for config in configs] == ["pool", "pool", "proportional(base=0.5)"]
    assert [Path(config.data.prompts).name for config in configs] == ["pool.jsonl", "even.jsonl", "pool.jsonl"]
    assert {config.conditioning.replacement for config in configs} == {"constant(1.0)"}
    assert {config.allocation.partitioner for config in configs} == {"labels('concept')"}
    assert {(config.training.seed, config.run.checkpointing_steps) for config in configs} == {(7, 2)}
    own = replace(ARIA, partitioner="kmeans(2)", replacement="constant(0.5)", weighting="velocity", floor=0.5)
    config = Config().with_values(runner_of(arms).settings(own, 0, tmp_path))
    assert (config.allocation.partitioner, config.allocation.floor) == ("kmeans(2)", 0.5)
    assert (config.conditioning.replacement, config.loss.weighting) == ("constant(0.5)", "velocity")


def test_cells_are_keyed_by_all_of_their_inputs(task):
    one = comparison(task)
    names = {name(one, RC, 0), name(one, RC, 1), name(one, ARIA, 0), name(one, EVEN, 0)}
    others = [comparison(task, learning_rate=1e-3), replace(one, exams=4), comparison(task, steps=6)]
    others += [replace(one, setting=SETTINGS["tuned"]), comparison(replace(task, steps=3))]
    names |= {name(other, RC, 0) for other in others}
    assert len(names) == 9
    assert name(one, RC, 0) == name(comparison(task), RC, 0)


def test_what_the_teacher_makes_in_other_steps_is_kept_apart(task, tmp_path):
    """Halved teachers sample in as many steps as they are halved from."""
    whole, halved = (runner_of(comparison(task, **values)) for values in ({}, {"halve_from": 8, "objective": "output"}))
    assert whole._outputs(tmp_path) != halved._outputs(tmp_path)
    assert whole._cache(tmp_path, 0) != halved._cache(tmp_path, 0)


def test_records_are_of_every_arm_seed_examination_and_group(task, compared, here):
    arms, (folder, rows, done) = comparison(task, RC, EVEN), compared
    assert done == ["rc", "condition-uniform"]
    keys = [(r["arm"], r["seed"], r["step"], r["metric"], r["group"]) for r in rows]
    wanted = {(arm, seed, step, "gap", group) for arm in ("rc", "condition-uniform") for seed in (0,)
              for step in (2, 4) for group in ("uniform", "a", "b")}  # fmt: skip
    assert set(keys) == wanted and len(keys) == len(wanted)
    gap = {key: row["value"] for key, row in zip(keys, rows, strict=True)}
    for (arm, seed, step, _, _), value in gap.items():
        assert value > 0
        a, b = (gap[arm, seed, step, "gap", group] for group in "ab")
        assert gap[arm, seed, step, "gap", "uniform"] == pytest.approx((a + 2 * b) / 3)
    assert gap["rc", 0, 4, "gap", "a"] != gap["condition-uniform", 0, 4, "gap", "a"]
    # what a run leaves: its logs and its partition, but no models
    for run in (folder / "cells").glob("*/run"):
        assert not [entry for entry in run.iterdir() if entry.is_dir()] and (run / "losses.jsonl").is_file()
    # what its log says about allocation, which is nothing after four steps
    worth = [records.worth(path) for path in folder.glob("*.json")]
    assert [list(found) for found in worth if found is not None] == [["unknown"]] * 2, worth
    # the pool's weights are gone for the arm that counts conditions
    places = [path.parent for path in folder.glob("cells/*/cell-*.json")]
    runs = {cells.CellSettings.read(place).arm: place / "run" for place in places}
    mass = {arm: aria.partitioners.load(run / "partition.safetensors").mass for arm, run in runs.items()}
    assert mass["condition-uniform"].tolist() == [0.5, 0.5]
    assert run_experiment(arms, folder) == rows and here == []
    more = run_experiment(replace(arms, arms=(RC,), seeds=(0, 1)), folder)  # another seed, and only that
    assert here == ["rc"] and [row["seed"] for row in more] == [0] * 6 + [1] * 6
    assert more[:6] == rows[:6] and {row["value"] for row in more[6:]}.isdisjoint(row["value"] for row in rows)


def test_a_perfect_student_has_no_gap(task, here, tmp_path):
    """The teacher as its own student, at a learning rate of almost nothing."""
    itself = replace(task, student=str(Path(task.teacher)))
    perfect = comparison(itself, learning_rate=1e-30, adam_weight_decay=0.0)
    assert max(row["value"] for row in run_experiment(perfect, tmp_path)) < 1e-6
    assert all(row["value"] == 0 for row in runner_of(perfect).teacher(tmp_path))


@pytest.mark.usefixtures("here")
def test_a_half_done_cell_resumes_from_its_checkpoint(task, compared, tmp_path, monkeypatch):
    """Interrupted after the first checkpoint, a resumed cell has the records of an uninterrupted one."""
    whole = run_experiment(comparison(task, ARIA), prepared(compared, tmp_path / "one"))
    prepared(compared, tmp_path / "two")
    from aria.distill.runs import checkpoint

    save, loaded = checkpoint.save, []

    def once(*args, **settings):
        save(*args, **settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", once)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(comparison(task, ARIA), tmp_path / "two")
    monkeypatch.setattr(checkpoint, "save", save)
    load = checkpoint.Saved.load
    monkeypatch.setattr(
        checkpoint.Saved, "load", lambda one, *args, **rest: (loaded.append(one.folder.name), load(one, *args, **rest))
    )
    assert run_experiment(comparison(task, ARIA), tmp_path / "two") == whole
    assert loaded == ["checkpoint-2"]


SLOW = """
import time
from dataclasses import dataclass
from pathlib import Path

from aria.distill.objectives import Output

@dataclass(frozen=True)
class Slow(Output):
    def __call__(self, inputs, teacher, student):
        time.sleep(1.0 if Path(__file__).with_name("slowly").exists() else 0.0)
        return super().__call__(inputs, teacher, student)
"""
"""An objective that gives the test time to kill a run at work."""


@pytest.mark.slow
def test_a_killed_comparison_resumes(task, compared, request, tmp_path):
    """The whole comparison in processes of its own, killed at work: the orphaned cell saves and stops, and what is
    started again resumes from there."""
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "slowly").touch()
    arms = comparison(task, RC, steps=8, logging_steps=1, objective=(f"{tmp_path / 'slow.py'}:Slow",))
    (tmp_path / "bench.py").write_text(
        "import sys\nfrom pathlib import Path\n"
        "from aria.bench import STANDARD, Experiment, Setting, run_experiment\nfrom aria.tasks import presets\n"
        f"task = presets.task({registry.spec(task)!r})\n"
        f"made = Experiment(task, [STANDARD[1]], (0,), {ALWAYS!r}, steps=8, values={dict(arms.values)!r}, exams=2)\n"
        "run_experiment(made, Path(sys.argv[1]))\n"
    )
    output, folder = tmp_path / "output", prepared(compared, tmp_path / "bench") / "cells" / name(arms, RC, 0)
    bench = Forked(script(tmp_path / "bench.py", tmp_path / "bench"), output, {"PYTHONPATH": str(ROOT)})
    try:
        wait_for(lambda: (folder / "run" / "losses.jsonl").is_file(), output.with_name("output.err"))
    finally:
        bench.kill()
    wait_for(lambda: list((folder / "run").glob("checkpoint-*/state.json")), folder / "log.txt")
    with files.lock(folder / ".lock", wait=True):  # the orphan has let go
        step = max(int(kept.name.split("-")[1]) for kept in (folder / "run").glob("checkpoint-*"))
        assert 0 < step < 8 and not list((tmp_path / "bench").glob("*.json"))
        lines = (folder / "run" / "losses.jsonl").read_text().splitlines()
    (tmp_path / "slowly").unlink()
    request.getfixturevalue("here")  # the rest in this process
    rows = run_experiment(arms, tmp_path / "bench")
    assert {row["step"] for row in rows} == {4, 8}
    assert (folder / "run" / "losses.jsonl").read_text().splitlines()[:step] == lines[:step]


def wait_for(condition, log, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, log.read_text() if log.is_file() else "nothing was printed"
        time.sleep(0.05)


@pytest.fixture
def exam(task, compared):
    """An evaluation, and what the teacher makes in it."""
    runner = runner_of(comparison(task, RC))
    place = runner._place(compared[0])
    made = cells.Exam(task, place, runner.settings(RC, 0, place), "cpu")
    return made, made.outputs(runner._outputs(place))


@pytest.mark.parametrize("broken, complaint", [
    (lambda count: torch.zeros(count, 1), r"own must have the shape \(3,\), got \(3, 1\)"),
    (lambda count: torch.full((count,), torch.nan), "own has nothing but NaN"),
])  # fmt: skip
def test_wrong_marks_of_a_task_are_refused(broken, complaint, exam, monkeypatch):
    own, made = exam
    monkeypatch.setattr(Folder, "marks", lambda self, place, images: {"own": broken(len(images))})
    with pytest.raises(ValueError, match=complaint):
        list(own._rows("mine", 3, 8, made, made))


def test_a_student_that_makes_no_image_is_not_left_out_of_its_mean(exam):
    own, made = exam
    with pytest.raises(ValueError, match="arm mine, seed 3, step 8, makes no finite image of 1 of 3 prompts"):
        list(own._rows("mine", 3, 8, torch.cat([made[:1] * torch.nan, made[1:]]), made))


def test_a_failing_cell_is_named_and_the_others_stop(tmp_path, monkeypatch):
    """Two processes that stand for cells: one fails at once, the other would run for ever."""
    for name, body in (("bad", "raise ValueError('no such thing')"), ("good", "import time; time.sleep(1000)")):
        cells.CellSettings("task", "", "", "", "", name, 3, "cpu", {}).write(tmp_path / name)
        (tmp_path / name / "do.py").write_text(body)
    started = []

    def start(cell):
        with (cell / "log.txt").open("wb") as log:
            started.append(subprocess.Popen([sys.executable, cell / "do.py"], stderr=log))
        return started[-1]

    monkeypatch.setattr("aria.bench.process_runner._started", start)
    with pytest.raises(CellFailed, match="arm bad on seed 3 ended with 1: ValueError: no such thing"):
        _work([tmp_path / "good", tmp_path / "bad"], 2, lambda done: None)
    assert [process.returncode for process in started] == [-signal.SIGTERM, 1]


def test_scenes_are_compared_by_gap_and_by_what_is_read(here, tmp_path):
    task = Shapes(preset="tiny", images=12, asked=8, steps=2)
    made = Experiment(task, (RC,), (0,), SETTINGS["tuned"], steps=2, exams=1)
    rows = run_experiment(made, tmp_path)
    assert {row["metric"] for row in rows} == {"gap", "accuracy", "shape", "colour", "size", "place"}
    assert {row["step"] for row in rows} == {2} and {"uniform", "pool", "tail", "unseen"} <= {r["group"] for r in rows}
    assert all(0 <= row["value"] <= 1 for row in rows if row["metric"] != "gap")


def test_prompts_without_weights_keep_their_columns(task, tmp_path):
    _without_weights(Path(task.prompts), tmp_path / "even.jsonl", None)
    before, after = read_prompts(task.prompts), read_prompts(tmp_path / "even.jsonl")
    assert list(after.texts) == list(before.texts) and after.weight is None and before.weight is not None
    assert list(after.columns["concept"]) == list(before.columns["concept"])


@pytest.mark.parametrize("make, complaint", [
    (lambda task: comparison(task, Arm("oracle", "oracle")),
     "the oracle needs exact discrepancies, which no task on disk has: leave that arm out"),
    (lambda task: comparison(task, RC, RC), "arms must be different from one another, got rc more than once"),
    (lambda task: comparison(task, seed=3), "seed cannot be set: the task, its arms and seeds decide it"),
    (lambda task: comparison(task, **{"allocation.floor": 0.1}),
     "floor cannot be set: the task, its arms and seeds decide it"),
    (lambda task: replace(comparison(task), lookahead=True),
     "lookahead is for tasks in memory, whose arms are trained side by side"),
    (lambda task: replace(comparison(task), exams=0), "exams must be a whole number of at least 1, got 0"),
    (lambda task: comparison(task, learning_rat=1),
     "unknown setting 'learning_rat' (did you mean 'learning_rate'?)"),
    (lambda task: cells.CellSettings.read(Path("nowhere")), "nowhere is no cell of a comparison"),
])  # fmt: skip
def test_impossible_comparisons_are_refused(make, complaint, task):
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}"):
        runner_of(make(task))


def test_progress_is_reported_while_runs_are_going_on(monkeypatch, tmp_path):
    """Without a progress bar, lines can then show the time so far."""
    from aria.bench import process_runner

    class Process:
        def __init__(self):
            self.turns, self.returncode = 3, 0

        def poll(self):
            self.turns -= 1
            return None if self.turns else 0

    reported, folders = [], [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        written(folder)
    monkeypatch.setattr(process_runner, "_started", lambda cell: Process())
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    process_runner._work(folders, 1, reported.append)
    assert reported == [0, 0, 0, 1, 1, 1, 2]


def test_cells_that_another_command_works_on_are_left_to_it(monkeypatch, tmp_path):
    """The first is locked until the second is done, and then its records are there; the third is found to be busy by
    its process, is free on the second try, and is then done."""
    from aria.bench import process_runner

    started, codes = [], {"b": [0], "c": [cells.BUSY, 0]}
    for name in "abc":
        written(tmp_path / name)
    held = files.lock(tmp_path / "a" / files.FOLDER_LOCK)

    class Process:
        def __init__(self, name):
            self.returncode = codes[name].pop(0)

        def poll(self):
            return self.returncode

    def start(cell):
        started.append(cell.name)
        return Process(cell.name)

    def sleep(seconds):
        if len(started) == 3:  # all that is left is busy elsewhere
            held.close()
            (tmp_path / "a" / "records.json").write_text("{}")

    monkeypatch.setattr(process_runner, "_started", start)
    monkeypatch.setattr("time.sleep", sleep)
    process_runner._work([tmp_path / name for name in "abc"], 1, lambda done: None)
    assert started == ["b", "c", "c"]


def test_a_busy_cell_says_so(tmp_path, monkeypatch):
    written(tmp_path / "a")
    monkeypatch.setattr(sys, "argv", ["cell", str(tmp_path / "a")])
    with files.lock(tmp_path / "a" / files.FOLDER_LOCK):
        assert cells.main() == cells.BUSY


def written(folder):
    """The folder of a cell."""
    cells.CellSettings("task", "", "", "", str(folder / "records.json"), folder.name, 3, "cpu", {}).write(folder)
