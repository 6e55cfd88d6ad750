"""Checkpoints: a resumed run is the uninterrupted one bit for bit, and a kill at any operation leaves one to resume."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from itertools import count

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from aria import files
from aria.distill.data.memory import EncodingsInMemory
from aria.distill.engine import optimiser
from aria.distill.engine.distiller import Distiller, NonFiniteLoss
from aria.distill.engine.on_policy import OnPolicy
from aria.distill.runs import checkpoint
from aria.distill.runs.callbacks import Callback, Checkpoints, Log
from aria.distill.settings.choices import SCHEDULES
from aria.distill.settings.config import AdamW
from aria.distill.students import add_low_rank, factorise
from aria.distill.teachers.teacher import Teacher
from tests.distill import pipelines, tiny
from tests.distill.broken_disk import Killed, broken

SETTINGS = {"a": 1}
ADAPTIVE = {"allocator": "proportional", "timesteps": tiny.TIMESTEPS}
EVERYTHING = ("output", "feature(layers=[('mid', 'mid')])", "task")


def state(distiller):
    """Everything that a run has, as tensors."""
    learner = distiller.learner.state_dict()
    found = {f"learner.{name}": value for name, value in learner.items()}
    if distiller.average is not None:
        found |= {f"average.{name}": value for name, value in distiller.average.weights.items()}
    found |= {f"optimizer.{name}": x for name, x in optimiser.state_tensors(distiller.optimizer.optimizer).items()}
    found |= {f"sampler.{name}": value for name, value in distiller.sampler.state_dict().items()}
    found |= {f"batches.{name}": value for name, value in distiller.batches.state_dict().items()}
    found |= {f"sums.{name}": value for name, value in distiller.tally.sums().items()}
    rate = distiller.learning_rate.get_last_lr() + [group["lr"] for group in distiller.optimizer.param_groups]
    return {name: value.clone() for name, value in found.items()} | {"rate": torch.tensor(rate, dtype=torch.float64)}


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


CASES = {
    "plain": {},
    "everything": {"objective": EVERYTHING, "width": 4, "of": ADAPTIVE, "weighting": "min_snr"},
    "accumulation": {"batch_size": 4, "accumulation": 2, "of": ADAPTIVE},
    "ahead": {"ahead": 2, "of": ADAPTIVE},
    "every": {"of": ADAPTIVE | {"every": 3, "warmup": 1}},
    "importance": {"of": ADAPTIVE | {"correction": "importance", "stratified": False}},
    "no average": {"ema_decay": 0.0},
    "on policy": {"on_policy": OnPolicy(), "ahead": 1, "of": ADAPTIVE, "batch_size": 4, "accumulation": 2},
    "warm-up": {"optimiser": AdamW(learning_rate=1e-2, lr_scheduler="cosine", lr_warmup_steps=2), "steps": 8},
}


@pytest.mark.parametrize("case", CASES)
def test_resumed_is_uninterrupted(case, tmp_path):
    def make():
        return tiny.make(**({"optimiser": AdamW(learning_rate=1e-2)} | CASES[case]))

    whole, half = make(), make()
    for _ in range(7):
        whole.step()
    for _ in range(4):
        half.step()
    folder = checkpoint.save(half, tmp_path, settings=SETTINGS)
    resumed = make()
    checkpoint.load(resumed, folder, settings=SETTINGS)
    assert_same(state(half), state(resumed))
    for _ in range(3):
        resumed.step()
    assert_same(state(whole), state(resumed))
    assert resumed.step_count == 7 and resumed.tally.steps == 7


@pytest.mark.parametrize("kind", SCHEDULES)
def test_every_learning_rate_schedule_is_resumed(kind, tmp_path):
    settings = {"optimiser": AdamW(lr_scheduler=kind, lr_warmup_steps=2), "steps": 6}
    whole, half = tiny.make(**settings), tiny.make(**settings)
    for _ in range(5):
        whole.step()
    for _ in range(3):
        half.step()
    resumed = tiny.make(**settings)
    checkpoint.load(resumed, checkpoint.save(half, tmp_path, settings={}), settings={})
    for _ in range(2):
        resumed.step()
    assert_same(state(whole), state(resumed))


@pytest.mark.parametrize(
    ("change", "mark"), [(lambda net: add_low_rank(net, 2), "lora"), (lambda net: factorise(net, 0.5), ".first.")],
    ids=["adapters", "products"],
)  # fmt: skip
def test_low_rank_layers_are_resumed_and_saved_merged(change, mark, tmp_path):
    def make():
        torch.manual_seed(1)
        stages = {"down_block_types": ("CrossAttnDownBlock2D",) * 2, "up_block_types": ("CrossAttnUpBlock2D",) * 2}
        student = pipelines.unet(**stages, block_out_channels=(4, 8), layers_per_block=1)
        teacher = Teacher(tiny.net(0), ask, tiny.schedule(), "epsilon", "unet")
        tensors, null = ({"embeds": torch.zeros(n, 3), "pooled": torch.zeros(n)} for n in (4, 1))
        told = {"prompt_embeds": torch.ones(4, 2, 8)}, {"prompt_embeds": torch.zeros(1, 2, 8)}
        pool = EncodingsInMemory(tensors | told[0], null | told[1])
        told = {"batch_size": 2, "accelerator": Accelerator(cpu=True), "optimiser": AdamW(learning_rate=1e-2)}
        student = change(student)
        return Distiller(teacher, student, tiny.sampler(4), tiny.images(conditions=4), pool, **told)

    def ask(model, noisy, timestep, condition):
        if isinstance(model, tiny.Net):
            return tiny.ask(model, noisy, timestep, condition)
        return model(noisy.repeat(1, 2, 1, 1), timestep, condition["prompt_embeds"], return_dict=False)[0][:, :2]

    whole, half = make(), make()
    for _ in range(4):
        whole.step()
    for _ in range(2):
        half.step()
    folder = checkpoint.save(half, tmp_path, settings={})
    resumed = make()
    checkpoint.load(resumed, folder, settings={})
    for _ in range(2):
        resumed.step()
    assert_same(state(whole), state(resumed))
    config = json.loads((folder / "unet" / "config.json").read_text())
    assert config["_class_name"] == "UNet2DConditionModel" and not any("lora" in name for name in config)
    assert not any(mark in name for name in load_file(folder / "unet" / checkpoint.WEIGHTS))
    held = load_file(folder / "unet.adapters.safetensors")
    assert any(mark in name for name in held) and (mark != "lora" or all(mark in name for name in held))
    name = sorted(held)[0]
    held["other"] = held.pop(name)
    files.write_tensors(folder / "unet.adapters.safetensors", held)
    stated = json.loads((folder / "state.json").read_text())
    stated["files"] = {key: size for key, size in files.sizes(folder).items() if key != "state.json"}
    files.write_json(folder / "state.json", stated)
    with pytest.raises(ValueError, match="does not hold this student: 'other adapters: "):
        checkpoint.load(make(), folder, settings={})


def run(output, *, limit=1, every=1, steps=4, logging=1, **more):
    """A run with logs and checkpoints, as ``aria distill`` does it."""
    distiller = tiny.make(steps=steps, optimiser=AdamW(learning_rate=1e-2), of=ADAPTIVE, batch_size=4, **more)
    output.mkdir(exist_ok=True)
    files.sweep(output)
    found = checkpoint.latest(output)
    if found is not None:
        checkpoint.load(distiller, found, settings=SETTINGS)
    saved = Checkpoints(output, every=every, limit=limit, settings=SETTINGS)
    distiller.fit([Log(output, every=logging, quiet=True), saved])
    return distiller


def logs(output):
    rows = [json.loads(line) for line in (output / "losses.jsonl").read_text().splitlines()]
    rows = [{name: value for name, value in row.items() if name != "steps_per_second"} for row in rows]
    return rows, (output / "discrepancies.jsonl").read_text()


def test_a_kill_at_any_operation_is_only_a_delay(tmp_path, monkeypatch):
    """Weights, optimiser, sampler and logs of the run that was killed and resumed are those of one that was not."""
    with broken(monkeypatch) as disk:
        whole = state(run(tmp_path / "whole", steps=2))
    assert disk.count > 30
    for last in range(1, disk.count + 1):
        output = tmp_path / str(last)
        with pytest.raises(Killed), broken(monkeypatch, last):
            run(output, steps=2)
        for folder in checkpoint.folders(output):
            checkpoint.check(folder)
        assert_same(whole, state(run(output, steps=2)))
        assert logs(output) == logs(tmp_path / "whole")
        assert checkpoint.folders(output)[-1].name == "checkpoint-2"
        assert not list(output.glob(".*"))


@pytest.mark.parametrize(("limit", "left"), [(1, [4]), (2, [3, 4]), (9, [1, 2, 3, 4]), (None, [1, 2, 3, 4])])
def test_the_oldest_are_removed(limit, left, tmp_path):
    run(tmp_path, limit=limit)
    assert [checkpoint.step_of(folder) for folder in checkpoint.folders(tmp_path)] == left


def test_checkpoints_are_sorted_by_number(tmp_path):
    for name in ("checkpoint-10", "checkpoint-9", "checkpoint-x", ".checkpoint-11.part"):
        (tmp_path / name).mkdir()
    assert [folder.name for folder in checkpoint.folders(tmp_path)] == ["checkpoint-9", "checkpoint-10"]
    assert checkpoint.folders(tmp_path / "none") == [] and checkpoint.latest(tmp_path / "none") is None


def test_the_student_and_its_average_are_kept_apart(tmp_path):
    distiller = run(tmp_path, ema_decay=0.5)
    folder = checkpoint.latest(tmp_path)
    mine = load_file(folder / "student" / checkpoint.WEIGHTS)
    averaged = load_file(folder / "student_ema" / checkpoint.WEIGHTS)
    assert_same(mine, dict(distiller.student.state_dict()))
    assert_same(averaged, distiller.average.weights)
    assert not torch.equal(mine["out.bias"], averaged["out.bias"])


def test_nothing_a_checkpoint_holds_is_a_pickle(tmp_path):
    run(tmp_path)
    endings = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert endings == {".json", ".jsonl", ".safetensors"}


def spoil_missing(folder):
    (folder / "optimizer.safetensors").unlink()


def spoil_short(folder):
    path = folder / "sampler.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def spoil_state(folder):
    (folder / "state.json").write_text('{"format": 2, ')


def spoil_list(folder):
    (folder / "state.json").write_text("[]")


def spoil_format(folder):
    (folder / "state.json").write_text('{"format": 99, "files": {}}')


def spoil_no_state(folder):
    (folder / "state.json").unlink()


def spoil_header(folder):
    path = folder / "projections.safetensors"
    path.write_bytes(b"\xff" * path.stat().st_size)


def spoil_counters(folder):
    told = json.loads((folder / "state.json").read_text())
    del told["steps_seen"]
    files.write_json(folder / "state.json", told)


def spoil_deep(folder):
    (folder / "state.json").write_text("[" * 20_000)


def saying(**told):
    def spoil(folder):
        state = json.loads((folder / "state.json").read_text())
        for name, value in told.items():
            state[name] = state[name] | value if isinstance(value, dict) else value
        files.write_json(folder / "state.json", state)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (spoil_missing, "is torn: optimizer.safetensors should have .* bytes and has none"),
        (spoil_short, "is torn: sampler.safetensors should have .* bytes"),
        (spoil_state, "state.json is torn or foreign"),
        (spoil_list, "state.json is torn or foreign"),
        (spoil_format, "checkpoint format 99, this version reads 2"),
        (spoil_no_state, "is no checkpoint: it has no state.json"),
        (spoil_header, "does not hold this student"),
        (spoil_counters, "state.json is torn or foreign: it lacks steps_seen"),
        (spoil_deep, "state.json is torn or foreign: maximum recursion depth"),
        (saying(settings=[1]), r"state.json is torn or foreign: settings is no object: \[1\]"),
        (saying(step="4"), "foreign: step must be a whole number of at least 0, got '4'"),
        (saying(steps_seen=-1), "foreign: steps_seen must be a whole number of at least 0, got -1"),
        (saying(average_steps=True), "foreign: average_steps must be a whole number of at least 0, got True"),
        (saying(learning_rate=0.1), "foreign: learning_rate is not as this run has it: 0.1"),
        (saying(learning_rate={"step": 3}), "foreign: learning_rate is not as this run has it: {"),
        (saying(learning_rate={"_last_lr": [0.1, 0.1]}), "foreign: learning_rate is not as this run has it: {"),
        (saying(learning_rate={"_last_lr": [float("inf")]}), "foreign: learning_rate is not as this run has it: {"),
        (saying(learning_rate={"last_epoch": 1.5}), "foreign: learning_rate is not as this run has it: {"),
        (saying(scaler=2.0), "foreign: scaler is not as this run has it: 2.0"),
    ],
)
def test_torn_and_foreign_checkpoints_are_refused(spoil, sentence, tmp_path):
    run(tmp_path)
    folder = checkpoint.latest(tmp_path)
    spoil(folder)
    with pytest.raises(ValueError, match=sentence) as caught:
        checkpoint.load(tiny.make(of=ADAPTIVE), folder, settings=SETTINGS)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_a_torn_one_is_passed_over_but_not_if_there_is_no_other(tmp_path, caplog):
    run(tmp_path, limit=2)
    spoil_short(tmp_path / "checkpoint-4")
    with caplog.at_level(logging.WARNING):
        assert checkpoint.latest(tmp_path).name == "checkpoint-3"
    assert "checkpoint-4 is torn: sampler.safetensors" in caplog.text
    spoil_state(tmp_path / "checkpoint-3")
    with pytest.raises(ValueError, match="checkpoint-3/state.json is torn"):
        checkpoint.latest(tmp_path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"a": 2}, "was written with a = 1, now it is 2; resume with the same settings"),
        ({"a": 1, "b": 3}, "was written with b = None, now it is 3"),
        ({}, "was written with a = 1, now it is None"),
    ],
)
def test_other_settings_are_refused(settings, sentence, tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        checkpoint.load(tiny.make(of=ADAPTIVE), checkpoint.latest(tmp_path), settings=settings)


def test_another_student_or_sampler_is_refused(tmp_path):
    run(tmp_path)
    folder = checkpoint.latest(tmp_path)
    with pytest.raises(ValueError, match="does not hold this student: .*size mismatch"):
        checkpoint.load(tiny.make(of=ADAPTIVE, width=4), folder, settings=SETTINGS)
    with pytest.raises(ValueError, match="the state was saved with floor=0.2, this sampler has 0.5"):
        checkpoint.load(tiny.make(of=ADAPTIVE | {"floor": 0.5}), folder, settings=SETTINGS)


class Asks(Callback):
    """Sends this process a signal after a step."""

    def __init__(self, number, at):
        self.number, self.at = number, at

    def step(self, distiller):
        if distiller.step_count == self.at:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_saves(number, tmp_path):
    before = signal.getsignal(number)
    distiller = tiny.make(steps=9)
    distiller.fit([Asks(number, 3), Checkpoints(tmp_path, every=100, settings={})])
    assert distiller.step_count == 3 and [f.name for f in checkpoint.folders(tmp_path)] == ["checkpoint-3"]
    assert signal.getsignal(number) is before


def test_handlers_are_put_back_after_an_error(tmp_path):
    class Fails(Callback):
        def step(self, distiller):
            raise RuntimeError

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError):
        tiny.make().fit([Checkpoints(tmp_path, settings={}), Fails()])
    assert signal.getsignal(signal.SIGTERM) is before and not checkpoint.folders(tmp_path)


def test_a_thread_of_its_own_can_train(tmp_path):
    done = []
    distiller = tiny.make(steps=2)
    thread = threading.Thread(target=lambda: done.append(distiller.fit([Checkpoints(tmp_path, settings={})])))
    thread.start(), thread.join()
    assert done == [None] and checkpoint.latest(tmp_path).name == "checkpoint-2"


def test_nothing_is_saved_after_a_loss_that_is_not_finite(tmp_path):
    """The checkpoint before stays, and the run resumed from it comes to the same step again."""

    def attempt():
        calls = count()
        distiller = tiny.make(steps=9)
        if (found := checkpoint.latest(tmp_path)) is not None:
            checkpoint.load(distiller, found, settings={})
        plan = distiller.batches._plan

        def poisoned(draw):
            made = plan(draw)
            next(calls)
            if draw.step == 5:
                made.noise[0] = float("inf")
            return made

        distiller.batches._plan = poisoned
        with pytest.raises(NonFiniteLoss, match="not finite at step 5"):
            distiller.fit([Log(tmp_path, every=7, quiet=True), Checkpoints(tmp_path, every=4, settings={})])
        return distiller

    attempt()
    assert [folder.name for folder in checkpoint.folders(tmp_path)] == ["checkpoint-4"]
    again = attempt()
    assert again.step_count == 7
    held = load_file(tmp_path / "checkpoint-4" / "student" / checkpoint.WEIGHTS)
    assert all(bool(value.isfinite().all()) for value in held.values())
    assert all(bool(value.isfinite().all()) for value in again.student.state_dict().values())


def test_refusals(tmp_path):
    for told in ({"every": 0}, {"limit": 0}):
        with pytest.raises(ValueError, match="must be a whole number of at least 1, got 0"):
            Checkpoints(tmp_path, settings={}, **told)
