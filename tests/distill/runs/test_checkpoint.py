"""Checkpoints: a resumed run is the uninterrupted one bit for bit, and a kill at any operation leaves one to resume."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import threading
from itertools import count

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from aria import files, integrity
from aria.distill.data.memory import EncodingsInMemory
from aria.distill.engine import optimiser, weights
from aria.distill.engine.distiller import NonFiniteLoss
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
WEIGHED = "ema(rate=0.1, importance=True)"
ADAPTIVE = {"allocator": "proportional", "timesteps": tiny.TIMESTEPS}
EVERYTHING = ("output", "feature(layers=[('mid', 'mid')])", "task")


def state(distiller):
    """The complete state of a run, as tensors."""
    learner = distiller.learner.state_dict()
    found = {f"learner.{name}": value for name, value in learner.items()}
    if distiller.average is not None:
        found |= {f"average.{name}": value for name, value in distiller.average.weights.items()}
    found |= {f"optimizer.{name}": x for name, x in optimiser.state_tensors(distiller.optimizer.optimizer).items()}
    found |= {f"sampler.{name}": value for name, value in distiller.sampler.state_dict().items()}
    found |= {f"source.{name}": value for name, value in distiller.source.pack(distiller.flow).items()}
    found |= {f"tally.{name}": torch.as_tensor(value) for name, value in distiller.tally.state_dict().items()}
    rate = distiller.learning_rate.get_last_lr() + [group["lr"] for group in distiller.optimizer.param_groups]
    return {name: value.clone() for name, value in found.items()} | {"rate": torch.tensor(rate, dtype=torch.float64)}


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


CASES = {
    "plain": {},
    "everything": {"objective": EVERYTHING, "width": 4, "of": ADAPTIVE, "weighting": "min_snr"},
    "accumulation": {"batch_size": 4, "accumulation": 2, "of": ADAPTIVE},
    "ahead": {"ahead": 2, "residency": "disk", "of": ADAPTIVE},
    "every": {"of": ADAPTIVE | {"every": 3, "warmup": 1}},
    "importance": {"of": ADAPTIVE | {"correction": "importance", "stratified": False}},
    "no average": {"ema_decay": 0.0},
    "on policy": {
        "on_policy": OnPolicy(0.4), "ahead": 1, "residency": "disk", "of": ADAPTIVE, "batch_size": 4, "accumulation": 2,
    },
    "visits": {"on_policy": OnPolicy(0.4), "ahead": 1, "residency": "disk", "of": ADAPTIVE | {"tracker": WEIGHED}},
    "warm-up": {"optimiser": AdamW(learning_rate=1e-2, lr_scheduler="cosine", lr_warmup_steps=2), "steps": 8},
}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(case, tmp_path):
    def make():
        return tiny.make(**({"optimiser": AdamW(learning_rate=1e-2)} | CASES[case]))

    whole, half = make(), make()
    for _ in range(7):
        whole.step()
    for _ in range(4):
        half.step()
    folder = tiny.save(half, tmp_path, SETTINGS)
    resumed = make()
    checkpoint.load(resumed.state(), folder, settings=SETTINGS)
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
    checkpoint.load(resumed.state(), tiny.save(half, tmp_path, {}), settings={})
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
        teacher = Teacher(tiny.net(0), evaluate, tiny.schedule(), "epsilon", "unet")
        tensors, null = ({"embeds": torch.zeros(n, 3), "pooled": torch.zeros(n)} for n in (4, 1))
        own = {"prompt_embeds": torch.ones(4, 2, 8)}, {"prompt_embeds": torch.zeros(1, 2, 8)}
        pool = EncodingsInMemory(tensors | own[0], null | own[1])
        kwargs = {"batch_size": 2, "accelerator": Accelerator(cpu=True), "optimiser": AdamW(learning_rate=1e-2)}
        student = change(student)
        return tiny.distiller(teacher, student, tiny.sampler(4), tiny.images(conditions=4), pool, **kwargs)

    def evaluate(model, noisy, timestep, condition):
        if isinstance(model, tiny.Net):
            return tiny.evaluate(model, noisy, timestep, condition)
        return model(noisy.repeat(1, 2, 1, 1), timestep, condition["prompt_embeds"], return_dict=False)[0][:, :2]

    whole, half = make(), make()
    for _ in range(4):
        whole.step()
    for _ in range(2):
        half.step()
    folder = tiny.save(half, tmp_path, {})
    resumed = make()
    checkpoint.load(resumed.state(), folder, settings={})
    for _ in range(2):
        resumed.step()
    assert_same(state(whole), state(resumed))
    config = json.loads((folder / "unet" / "config.json").read_text())
    assert config["_class_name"] == "UNet2DConditionModel" and not any("lora" in name for name in config)
    assert not any(mark in name for name in load_file(folder / "unet" / weights.FILE))
    held = load_file(folder / "unet.adapters.safetensors")
    assert any(mark in name for name in held) and (mark != "lora" or all(mark in name for name in held))
    name = sorted(held)[0]
    held["other"] = held.pop(name)
    files.write_tensors(folder / "unet.adapters.safetensors", held)
    stated = integrity.read(folder / "state.json")
    stated["files"] = integrity.hashes(folder)
    del stated["files"]["state.json"]
    integrity.write(folder / "state.json", stated)
    with pytest.raises(ValueError, match="does not hold this run's student: it lacks 'other adapters: "):
        checkpoint.load(make().state(), folder, settings={})


def load_newest(distiller, output, settings=SETTINGS):
    """As a run does; the name of the checkpoint."""
    saved = checkpoint.newest(output)
    if saved is not None:
        saved.load(distiller.state(), settings=settings)
        return saved.folder.name


def run(output, *, limit=1, every=1, steps=4, logging=1, **more):
    """A run with logs and checkpoints, as in ``aria distill``."""
    distiller = tiny.make(steps=steps, optimiser=AdamW(learning_rate=1e-2), of=ADAPTIVE, batch_size=4, **more)
    output.mkdir(exist_ok=True)
    files.sweep(output)
    load_newest(distiller, output)
    saved = Checkpoints(output, every=every, limit=limit, settings=SETTINGS)
    distiller.fit([Log(output, every=logging, quiet=True), saved])
    return distiller


def logs(output):
    rows = [json.loads(line) for line in (output / "losses.jsonl").read_text().splitlines()]
    rows = [{name: value for name, value in row.items() if name != "steps_per_second"} for row in rows]
    return rows, (output / "discrepancies.jsonl").read_text()


def test_a_run_killed_at_any_operation_resumes_to_the_same_result(tmp_path, monkeypatch):
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
def test_the_oldest_checkpoints_are_removed(limit, left, tmp_path):
    run(tmp_path, limit=limit)
    assert [checkpoint.step_of(folder) for folder in checkpoint.folders(tmp_path)] == left


def test_checkpoints_are_sorted_by_number(tmp_path):
    for name in ("checkpoint-10", "checkpoint-9", "checkpoint-x", ".checkpoint-11.part"):
        (tmp_path / name).mkdir()
    assert [folder.name for folder in checkpoint.folders(tmp_path)] == ["checkpoint-9", "checkpoint-10"]
    assert checkpoint.folders(tmp_path / "none") == []
    assert checkpoint.newest(tmp_path / "none") is None


def test_the_student_and_its_moving_average_are_saved_separately(tmp_path):
    distiller = run(tmp_path, ema_decay=0.5)
    folder = checkpoint.folders(tmp_path)[-1]
    student = load_file(folder / "student" / weights.FILE)
    averaged = load_file(folder / "student_ema" / weights.FILE)
    assert_same(student, dict(distiller.student.state_dict()))
    assert_same(averaged, distiller.average.weights)
    assert not torch.equal(student["out.bias"], averaged["out.bias"])


def test_nothing_a_checkpoint_holds_is_a_pickle(tmp_path):
    run(tmp_path)
    endings = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert endings == {".json", ".jsonl", ".safetensors"}


def spoil_missing(folder):
    (folder / "optimiser.safetensors").unlink()


def spoil_unlisted(folder):
    spoil_missing(folder)
    index = integrity.read(folder / "state.json")
    del index["files"]["optimiser.safetensors"]
    integrity.write(folder / "state.json", index)


def spoil_short(folder):
    path = folder / "sampler.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def spoil_state(folder):
    (folder / "state.json").write_text('{"format": 2, ')


def spoil_list(folder):
    (folder / "state.json").write_text("[]")


def spoil_format(folder):
    integrity.write(folder / "state.json", {"format": 99, "files": {}})


def spoil_no_state(folder):
    (folder / "state.json").unlink()


def spoil_bit(folder):
    path = folder / "student" / weights.FILE
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def spoil_part(folder):
    index = integrity.read(folder / "state.json")
    del index["values"]["tally"]
    integrity.write(folder / "state.json", index)


def spoil_deep(folder):
    (folder / "state.json").write_text("[" * 20_000)


def with_index(**changes):
    def spoil(folder):
        index = integrity.read(folder / "state.json")
        integrity.write(folder / "state.json", index | changes)

    return spoil


def with_values(part, **changes):
    """Other values of a part of the state; a dictionary changes some of its entries."""

    def spoil(folder):
        index = integrity.read(folder / "state.json")
        held = index["values"][part]
        for name, value in changes.items():
            held[name] = held[name] | value if isinstance(value, dict) else value
        integrity.write(folder / "state.json", index)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (spoil_missing, "is damaged: optimiser.safetensors is missing"),
        (spoil_unlisted, "does not hold this run's optimiser: it lacks 'optimiser.safetensors'"),
        (with_index(tensors={"sampler": "other.safetensors"}), "does not hold this run's"),
        (with_index(tensors=[]), r"state.json is damaged or foreign: tensors is no object: \[\]"),
        (spoil_short, "is damaged: sampler.safetensors does not match its hash"),
        (spoil_bit, "is damaged: student/diffusion_pytorch_model.safetensors does not match its hash"),
        (spoil_state, "state.json is damaged or foreign"),
        (spoil_list, "state.json is damaged or foreign"),
        (spoil_format, "checkpoint format 99, this version reads 3 only"),
        (spoil_no_state, "is no checkpoint: it has no state.json"),
        (spoil_part, "does not hold this run's tally: it lacks 'tally'"),
        (spoil_deep, "state.json is damaged or foreign: .*maximum recursion depth"),
        (with_index(settings=[1]), r"state.json is damaged or foreign: settings is no object: \[1\]"),
        (with_index(values={"tally": 3}), "state.json is damaged or foreign: tally is no object: 3"),
        (with_index(step="4"), "foreign: step must be a whole number of at least 0, got '4'"),
        (with_values("tally", steps=-1), "this run's tally: steps must be a whole number of at least 0, got -1"),
        (with_values("ema", steps=True), "this run's ema: steps .* must be a whole number of at least 0, got True"),
        (with_values("progress", step=2000), "progress: it was written at step 2000, beyond max_train_steps=1000"),
        (with_values("optimiser", learning_rate=0.1), "learning_rate is not structured as in this run: 0.1"),
        (with_values("optimiser", learning_rate={"step": 3}), "learning_rate is not structured as in this run"),
        (with_values("optimiser", learning_rate={"_last_lr": [0.1, 0.1]}), "learning_rate is not structured as in"),
        (with_values("optimiser", learning_rate={"_last_lr": [math.inf]}), "learning_rate is not structured as in"),
        (with_values("optimiser", learning_rate={"last_epoch": 1.5}), "learning_rate is not structured as in this run"),
    ],
)
def test_torn_and_foreign_checkpoints_are_refused(spoil, sentence, tmp_path):
    run(tmp_path)
    folder = checkpoint.folders(tmp_path)[-1]
    spoil(folder)
    with pytest.raises(ValueError, match=sentence) as caught:
        checkpoint.load(tiny.make(of=ADAPTIVE).state(), folder, settings=SETTINGS)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_a_torn_checkpoint_is_skipped_unless_it_is_the_only_one(tmp_path, caplog):
    run(tmp_path, limit=2)
    spoil_short(tmp_path / "checkpoint-4")
    distiller = tiny.make(of=ADAPTIVE, batch_size=4, optimiser=AdamW(learning_rate=1e-2))
    with caplog.at_level(logging.WARNING):
        assert load_newest(distiller, tmp_path) == "checkpoint-3"
    assert "checkpoint-4 is damaged: sampler.safetensors" in caplog.text
    spoil_state(tmp_path / "checkpoint-3")
    with pytest.raises(ValueError, match="checkpoint-3/state.json is damaged"):
        load_newest(distiller, tmp_path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"a": 2}, "was written with a = 1, now it is 2; resume with the same settings"),
        ({"a": 1, "b": 3}, "was written with b = None, now it is 3"),
        ({}, "was written with a = 1, now it is None"),
    ],
)
def test_resuming_with_other_settings_is_refused(settings, sentence, tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        checkpoint.load(tiny.make(of=ADAPTIVE).state(), checkpoint.folders(tmp_path)[-1], settings=settings)


def test_resuming_with_another_student_or_sampler_is_refused(tmp_path):
    run(tmp_path)
    folder = checkpoint.folders(tmp_path)[-1]
    with pytest.raises(ValueError, match="does not hold this run's student: .*size mismatch"):
        checkpoint.load(tiny.make(of=ADAPTIVE, width=4).state(), folder, settings=SETTINGS)
    with pytest.raises(ValueError, match="the state was saved with floor=0.2, this sampler has 0.5"):
        checkpoint.load(tiny.make(of=ADAPTIVE | {"floor": 0.5}).state(), folder, settings=SETTINGS)


class Asks(Callback):
    """Sends this process a signal after a step."""

    def __init__(self, number, at):
        self.number, self.at = number, at

    def step(self, distiller):
        if distiller.step_count == self.at:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_saves_a_checkpoint(number, tmp_path):
    before = signal.getsignal(number)
    distiller = tiny.make(steps=9)
    distiller.fit([Asks(number, 3), Checkpoints(tmp_path, every=100, settings={})])
    assert distiller.step_count == 3 and [f.name for f in checkpoint.folders(tmp_path)] == ["checkpoint-3"]
    assert signal.getsignal(number) is before


def test_signal_handlers_are_restored_after_an_error(tmp_path):
    class Fails(Callback):
        def step(self, distiller):
            raise RuntimeError

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError):
        tiny.make().fit([Checkpoints(tmp_path, settings={}), Fails()])
    assert signal.getsignal(signal.SIGTERM) is before and not checkpoint.folders(tmp_path)


def test_training_works_outside_the_main_thread(tmp_path):
    done = []
    distiller = tiny.make(steps=2)
    thread = threading.Thread(target=lambda: done.append(distiller.fit([Checkpoints(tmp_path, settings={})])))
    thread.start(), thread.join()
    assert done == [None] and checkpoint.folders(tmp_path)[-1].name == "checkpoint-2"


def test_no_checkpoint_is_saved_after_a_loss_that_is_not_finite(tmp_path):
    """The previous checkpoint stays, and the run resumed from it fails at the same step again."""

    def attempt():
        calls = count()
        distiller = tiny.make(steps=9)
        load_newest(distiller, tmp_path, settings={})
        plan = distiller.source._plan

        def poisoned(draw, *rest):
            made = plan(draw, *rest)
            next(calls)
            if draw.step == 5:
                made.noise[0] = float("inf")
            return made

        distiller.source._plan = poisoned
        with pytest.raises(NonFiniteLoss, match="not finite at step 5"):
            distiller.fit([Log(tmp_path, every=7, quiet=True), Checkpoints(tmp_path, every=4, settings={})])
        return distiller

    attempt()
    assert [folder.name for folder in checkpoint.folders(tmp_path)] == ["checkpoint-4"]
    again = attempt()
    assert again.step_count == 7
    held = load_file(tmp_path / "checkpoint-4" / "student" / weights.FILE)
    assert all(bool(value.isfinite().all()) for value in held.values())
    assert all(bool(value.isfinite().all()) for value in again.student.state_dict().values())


def test_refusals(tmp_path):
    for invalid in ({"every": 0}, {"limit": 0}):
        with pytest.raises(ValueError, match="must be a whole number of at least 1, got 0"):
            Checkpoints(tmp_path, settings={}, **invalid)


def test_hashes_are_those_of_the_files_on_disk(tmp_path):
    (tmp_path / "unet").mkdir()
    for place in range(3):
        (tmp_path / "unet" / f"{place}.bin").write_bytes(bytes([place]) * 1000)
    assert integrity.hashes_flushed(tmp_path) == integrity.hashes(tmp_path) and len(integrity.hashes(tmp_path)) == 3
