"""``aria distill`` reports every mistake in one line that names it, before anything slow begins."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import safetensors.torch
from click.testing import CliRunner
from safetensors import SafetensorError

from aria import partitioners
from aria.checks import InvalidSetting
from aria.cli import main
from aria.cli.errors import Refusal
from aria.distill.data import cache

FULL = "Error while serializing: I/O error: No space left on device (os error 28)"


@pytest.fixture(scope="session")
def place(tmp_path_factory, sd_folder):
    """A teacher, a student, prompts and a cache."""
    from aria.distill.models.pipelines import open_pipeline
    from aria.distill.students import prune

    folder = tmp_path_factory.mktemp("distill")
    (folder / "teacher").symlink_to(sd_folder)
    prune(sd_folder, folder / "student", preset="bk-tiny", width=0.5)
    (folder / "prompts.txt").write_text("\n".join(f"cat {i}" for i in range(12)))
    settings = {"prompts": folder / "prompts.txt", "num_images": 3, "steps": 1, "seed": 0}
    from aria.progress import silent

    cache.fill(folder / "cache", open_pipeline(sd_folder), bar=silent, **settings)
    return folder


def arguments(place, output, **changes):
    settings = {
        "pretrained_model_name_or_path": place / "teacher",
        "student": place / "student",
        "prompts": place / "prompts.txt",
        "cache_dir": place / "cache",
        "output_dir": output,
        "max_train_steps": 2,
        "train_batch_size": 2,
        "num_images": 3,
        "num_inference_steps": 1,
    }
    flags = [[f"--{name}", value] for name, value in (settings | changes).items() if value is not None]
    return ["distill", "--quiet", *(str(text) for flag in flags for text in flag if text != "")]


def run(place, output, *more, **changes):
    return CliRunner().invoke(main, [*arguments(place, output, **changes), *map(str, more)])


def refused(result, sentence, code=2):
    """One line, no traceback."""
    assert result.exit_code == code, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    last = result.stderr.rstrip("\n").splitlines()[-1]
    assert last.startswith("Error: ") and sentence in last, last
    assert "Traceback" not in result.output


pytestmark = pytest.mark.usefixtures("teachers_once")


@pytest.fixture
def untouched(monkeypatch):
    """Nothing slow begins: filling the cache raises."""

    def begun(*args, **kwargs):
        raise AssertionError("the cache was begun")

    monkeypatch.setattr(cache, "fill", begun)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pretrained_model_name_or_path": None}, "--pretrained_model_name_or_path is missing: The teacher"),
        ({"tracker": "emma"}, "ema"),
        ({"allocator": "proportionel"}, "proportional"),
        ({"partitioner": "kmean(3)"}, "kmeans"),
        ({"weighting": "min_snrr"}, "min_snr"),
        ({"replacement": "exponental(5)"}, "exponential"),
        ({"objective": "outputs"}, "output"),
        ({"null_probability": 1.5}, "null_probability must lie in [0, 1], got 1.5"),
        ({"max_train_steps": -1}, "max_train_steps must be a whole number of at least 1, got -1"),
        ({"report_to": "paper"}, "report_to must be 'tensorboard' or 'wandb', got 'paper'"),
        ({"report_to": "wandb"}, "report_to='wandb' is not installed"),
        ({"config": "nowhere.yaml"}, "there is no configuration nowhere.yaml"),
        ({"config": "settings.ini"}, "the ending of a configuration file must be"),
        ({"set": "floor"}, "--set takes NAME=VALUE, got 'floor'"),
        ({"set": "flor=0.2"}, "unknown setting 'flor' (did you mean 'floor'?)"),
        ({"set": "floor=[1"}, "--set floor"),
    ],
)
def test_invalid_settings_are_refused_in_one_line(changes, sentence, place, tmp_path):
    refused(run(place, tmp_path / "out", **changes), sentence)
    assert not (tmp_path / "out" / "config.json").exists()


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("changes", "setting", "kind"),
    [
        ({"student": None}, "student", "missing"),
        ({"prompts": None}, "prompts", "missing"),
        ({"output_dir": None}, "output_dir", "missing"),
        ({"tracker": "ema(rate=2)"}, "rate", "range"),
        ({"floor": -0.1}, "floor", "range"),
        ({"floor": "nan"}, "floor", "range"),
        ({"correction": "some"}, "correction", "choice"),
        ({"train_batch_size": 0}, "train_batch_size", "range"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps", "range"),
        ({"checkpointing_steps": 0}, "checkpointing_steps", "range"),
        ({"checkpoints_total_limit": 0}, "checkpoints_total_limit", "range"),
        ({"logging_steps": 0}, "logging_steps", "range"),
        ({"ema_decay": 1.5}, "ema_decay", "range"),
        ({"learning_rate": 0}, "learning_rate", "range"),
        ({"lr_scheduler": "cosin"}, "lr_scheduler", "choice"),
        ({"mixed_precision": "fp8x"}, "mixed_precision", "choice"),
        ({"student_prediction": "noise"}, "student_prediction", "choice"),
        ({"low_rank": 0}, "low_rank", "range"),
        ({"num_images": 0}, "num_images", "missing"),
        ({"cache_memory_gb": -1}, "cache_memory_gb", "range"),
        ({"set": "floor=high"}, "floor", "type"),
        ({"set": "floor: [=1"}, "floor: [", "unknown"),
    ],
)
def test_invalid_settings_are_refused_by_kind(changes, setting, kind, place, tmp_path):
    """The command exits with 2 and one line, whose cause names the setting and the rule it broke."""
    output = None if "output_dir" in changes else tmp_path / "out"
    words = arguments(place, output, **{name: value for name, value in changes.items() if name != "output_dir"})
    refusal = CliRunner().invoke(main, words, standalone_mode=False).exception
    assert isinstance(refusal, Refusal) and refusal.exit_code == 2 and "\n" not in refusal.message
    cause = refusal.__cause__
    assert isinstance(cause, InvalidSetting) and (cause.setting, cause.kind) == (setting, kind)
    assert not (tmp_path / "out" / "config.json").exists()


@pytest.mark.usefixtures("untouched")
def test_options_without_support_by_model_or_launch_are_refused(place, tmp_path, monkeypatch):
    from diffusers import UNet2DConditionModel

    refused(run(place, tmp_path / "out", fsdp=""), "start several, with torchrun or accelerate launch")
    monkeypatch.setattr(UNet2DConditionModel, "_repeated_blocks", [])  # as transformers have them
    refused(run(place, tmp_path / "out", compile=""), "UNet2DConditionModel does not name its repeated blocks")


@pytest.mark.usefixtures("untouched")
def test_weights_that_are_infinite_at_pure_noise_are_refused(place, tmp_path, monkeypatch):
    """A schedule that ends in pure noise, where a noise prediction carries no information on the image."""
    from diffusers import DDIMScheduler

    from aria.distill.models.pipelines import open_pipeline

    teacher = open_pipeline(place / "teacher")
    config = teacher.scheduler.config
    teacher.register_modules(scheduler=DDIMScheduler.from_config(config, rescale_betas_zero_snr=True))
    monkeypatch.setattr("aria.distill.runs.run.open_pipeline", lambda path, **options: teacher)
    for weighting in ("velocity", "truncated_snr"):
        sentence = f"{weighting} weighting: an error of epsilon counts infinitely at timestep 999"
        refused(run(place, tmp_path / "out", weighting=weighting), sentence)
    changes = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    teacher.register_modules(scheduler=DDIMScheduler.from_config(config, **changes))
    refused(run(place, tmp_path / "out", student_prediction="epsilon"), "epsilon cannot be read as v_prediction")


def test_fsdp_has_no_scaler(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from aria.distill.runs import assembly
    from aria.distill.runs.plan import resolve
    from aria.distill.settings.config import Config

    plan = resolve(Config().with_values({"fsdp": True, "output_dir": str(tmp_path)}))
    made = SimpleNamespace(mixed_precision="fp16", num_processes=1)
    monkeypatch.setattr(assembly, "Accelerator", lambda **kwargs: made)
    with pytest.raises(ValueError, match="fsdp works with mixed_precision bf16 or no, not with fp16"):
        assembly.open_accelerator(plan)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"2 processes were started \(WORLD_SIZE\), and accelerate takes part in 1"):
        assembly.open_accelerator(plan)


@pytest.mark.usefixtures("untouched")
def test_a_file_of_settings_cannot_import_code(place, tmp_path):
    (tmp_path / "own.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'called')!r}).touch()")
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"allocator": f"{tmp_path}/own.py:Mine()"}))
    result = run(place, tmp_path / "out", "--config", path)
    assert result.exit_code == 2 and "or give --allow_imports if you trust the file" in result.stderr
    assert not (tmp_path / "called").exists()
    result = run(place, tmp_path / "out", "--config", path, "--allow_imports")
    assert result.exit_code == 2 and "has no 'Mine'" in result.stderr


@pytest.mark.usefixtures("untouched")
def test_unknown_flags_and_values_of_another_type_are_refused(place, tmp_path):
    for more in (("--learnin_rate", "1"), ("--max_train_steps", "many")):
        result = run(place, tmp_path / "out", *more)
        assert result.exit_code == 2 and more[0].strip("-") in result.stderr and "Traceback" not in result.output


def write(folder, name, text):
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(text)
    return folder


@pytest.mark.usefixtures("untouched")
def test_invalid_folders_are_refused(place, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    output = tmp_path / "out"
    teachers = {
        empty: "is no pipeline folder: it has no model_index.json (it is empty)",
        tmp_path / "none": "there is no folder",
        place / "student": "it has no model_index.json (it holds config.json",
        write(tmp_path / "torn", "model_index.json", "{"): "cannot open the pipeline",
    }
    for teacher, sentence in teachers.items():
        refused(run(place, output, pretrained_model_name_or_path=teacher), sentence)
    students = {
        empty: "is no model folder: it has no config.json (it is empty)",
        tmp_path / "none": "(there is no such folder)",
        write(tmp_path / "odd", "config.json", "{}"): "names the class ''",
        write(tmp_path / "text", "config.json", "{"): "is no JSON object",
    }
    for student, sentence in students.items():
        refused(run(place, output, student=student), sentence)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("name", ["cross_attention_dim", "sample_size", "in_channels"])
def test_students_of_another_shape_are_refused(name, place, tmp_path):
    from tests.distill import pipelines

    small = {"block_out_channels": (2, 2, 2, 2), "layers_per_block": 1, "attention_head_dim": 1}
    pipelines.unet(**small, **{name: 16}).save_pretrained(tmp_path / "student")
    refused(run(place, tmp_path / "out", student=tmp_path / "student"), f"the student's {name} is 16, the teacher's")


@pytest.mark.usefixtures("untouched")
def test_unknown_layers_are_refused(place, tmp_path):
    layers = "feature(layers=[('down_blocks.0', 'down_blocks.9')])"
    refused(run(place, tmp_path / "out", objective=layers), "UNet2DConditionModel has no module 'down_blocks.9'")
    from tests.distill import pipelines

    pipelines.unet(block_out_channels=(2, 2, 2, 2), layers_per_block=1).save_pretrained(tmp_path / "bare")
    refused(run(place, tmp_path / "out", student=tmp_path / "bare"), "feature distillation needs layers=")


def test_prompts_and_caches_that_do_not_match_are_refused(place, tmp_path):
    output = tmp_path / "out"
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "latin.txt").write_bytes("une forêt".encode("latin-1"))
    own = {"cache_dir": tmp_path / "cache"}
    refused(run(place, output, prompts=tmp_path / "empty.txt", **own), "empty.txt")
    refused(run(place, output, prompts=tmp_path / "latin.txt", **own), "UTF-8")
    refused(run(place, output, prompts=tmp_path / "none.txt", **own), "none.txt")
    refused(run(place, output, resolution=32), "size")
    refused(run(place, output, resolution=17), "resolution must be a multiple of 2")


def test_a_cache_of_another_encoder_is_refused(place, tmp_path):
    from tests.distill import pipelines

    other = pipelines.save_sd(tmp_path / "other", seed=1)
    result = run(place, tmp_path / "out", pretrained_model_name_or_path=other)
    refused(result, "was made with text_encoder weights =")


def test_output_folders_that_cannot_be_created_are_refused(place, tmp_path):
    (tmp_path / "file").write_text("")
    refused(run(place, tmp_path / "file" / "out"), "Not a directory")
    refused(run(place, tmp_path / "file"), "File exists")


def test_a_full_disk_is_named(place, tmp_path, monkeypatch):
    """Whether the system reports it, or safetensors with an error of its own."""
    def os_error(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def torch_error(*args, **kwargs):
        raise SafetensorError(FULL)

    output = tmp_path / "out"
    for module, name, fails in ((safetensors.torch, "save_file", torch_error), (Path, "write_text", os_error)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fails)
            refused(run(place, output), f"the disk is full: free some space for {output} and run the same command")
    assert not list(output.glob("checkpoint-*")) and not (output / "model_index.json").exists()
    assert run(place, output).exit_code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_small_disk(place, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("this system mounts nothing")
    try:
        refused(run(place, small / "out"), "the disk is full")
        assert not (small / "out" / "model_index.json").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def finished(place, output, **changes):
    result = run(place, output, **changes)
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads((output / "config.json").read_text())


def test_resuming_in_the_folder_of_a_run(place, student_folder, tmp_path):
    """Started again, resumed with other settings, and from torn, older and foreign checkpoints."""
    output = tmp_path / "out"
    finished(place, output, checkpointing_steps=1)
    before = (output / "config.json").read_text()
    refused(run(place, output, resume_from_checkpoint="none"), "holds checkpoints of an earlier run: resume it")
    refused(run(place, output, learning_rate=0.5), "was written with learning_rate = 5e-05, now it is 0.5")
    refused(run(place, output, train_batch_size=3), "was written with samples of a step = 2, now it is 3")
    refused(run(place, output, resume_from_checkpoint="checkpoint-9"), "checkpoint-9 is no checkpoint")
    refused(run(place, output, resume_from_checkpoint="checkpoint-1"), "checkpoint-2 is newer than checkpoint-1")
    refused(run(place, output, student=student_folder), "does not hold this run's student")
    held = {path: path.read_bytes() for path in (output / "cache").rglob("*") if path.is_file()}
    (tmp_path / "other.txt").write_text("quite another prompt\nand one more\n")
    refused(run(place, output, prompts=tmp_path / "other.txt"), "other.txt holds other prompts than this run was")
    assert held == {path: path.read_bytes() for path in (output / "cache").rglob("*") if path.is_file()}
    assert (output / "config.json").read_text() == before
    for name in ("checkpoint-1", "checkpoint-2"):
        (output / name / "sampler.safetensors").write_bytes(b"")
    refused(run(place, output), "checkpoint-1 is damaged: sampler.safetensors does not match its hash")
    assert not (output / "logs").exists()


def test_settings_come_from_flags_then_set_then_file(place, tmp_path):
    (tmp_path / "run.yaml").write_text(
        "optimiser:\n  learning_rate: 1e-4\n  adam_beta1: 0.8\nfloor: 0.3\nobjective: [output]\n", encoding="utf-8"
    )
    config = finished(place, tmp_path / "out", config=tmp_path / "run.yaml", set="optimiser.adam_beta1=0.7", floor=0.4,
                      max_train_steps=1, train_batch_size=5)  # fmt: skip - 5 samples of 3 images
    assert (config["optimiser"]["learning_rate"], config["optimiser"]["adam_beta1"]) == (1e-4, 0.7)
    assert config["allocation"]["floor"] == 0.4 and config["loss"]["objective"] == ["output"]
    again = CliRunner().invoke(main, ["distill", "--quiet", "--config", str(tmp_path / "out" / "config.json")])
    assert again.exit_code == 0 and again.stdout.strip() == str(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == config


def test_regions_from_a_file(place, tmp_path):
    """The file written by `aria partition` is used unchanged, and refused if it was made from other prompts."""
    regions = tmp_path / "regions.safetensors"
    command = ["partition", "--prompts", place / "prompts.txt", "--partitioner", "kmeans(2)", "--output", regions]
    assert CliRunner().invoke(main, [str(word) for word in [*command, "--cache_dir", place / "cache"]]).exit_code == 0
    finished(place, tmp_path / "out", partitioner=regions, max_train_steps=1)
    written, kept = (partitioners.load(path) for path in (regions, tmp_path / "out" / "partition.safetensors"))
    assert partitioners.digest(kept) == partitioners.digest(written)
    finished(place, tmp_path / "even", partitioner=regions, target="regions", max_train_steps=1)
    even = partitioners.load(tmp_path / "even" / "partition.safetensors")
    assert written.mass.tolist() != even.mass.tolist() == pytest.approx([0.5, 0.5])
    (tmp_path / "more.txt").write_text("\n".join(f"cat {i}" for i in range(13)))
    shutil.copytree(place / "cache" / "conditions", tmp_path / "cache" / "conditions")
    others = {"prompts": tmp_path / "more.txt", "cache_dir": tmp_path / "cache"}
    refused(run(place, tmp_path / "other", partitioner=regions, **others), "divides 12 prompts, the pool has 13")
    refused(run(place, tmp_path / "none", partitioner=tmp_path / "no.safetensors"), "there is no partition file")


@pytest.mark.parametrize(
    ("tracker", "allocator"),
    [
        ("window(size=4)", "softmax"),
        ("window_ucb(sigma=1.0, drift=0.1, size=4)", "ucb"),
        ("kalman(sigma=1.0, drift=0.1)", "thompson"),
        ("progress(of=ema(rate=0.2))", "progress"),
        ("second_moment(of=ema(rate=0.2))", "neyman"),
    ],
)
def test_any_tracker_with_any_allocator(tracker, allocator, place, tmp_path):
    chosen = {"tracker": tracker, "allocator": allocator, "partitioner": "kmeans(2)", "warmup": 0}
    finished(place, tmp_path / "out", **chosen, max_train_steps=2, logging_steps=1, no_use_ema="")
    rows = [json.loads(line) for line in (tmp_path / "out" / "discrepancies.jsonl").read_text().splitlines()]
    assert {row["step"] for row in rows} == {1, 2} and all(0 < row["q"] <= 1 for row in rows)


def test_runs_with_seeds_of_their_own_share_a_cache(place, teachers_once, tmp_path):
    """The dtype and seed of the images are those of the cache, not of the run."""
    from aria.progress import silent

    settings = {"prompts": place / "prompts.txt", "num_images": 3, "steps": 1, "seed": 5, "dtype": "bf16"}
    cache.fill(tmp_path / "cache", teachers_once(str(place / "teacher")), bar=silent, **settings)
    before = (tmp_path / "cache" / "cache.json").read_text()
    finished(place, tmp_path / "out", seed=1, cache_dir=tmp_path / "cache", max_train_steps=1)
    assert json.loads((tmp_path / "cache" / "cache.json").read_text()) == json.loads(before)
    refused(run(place, tmp_path / "out", seed=1, max_train_steps=2), "was written with conditions: dtype = 'bfloat16'")


def test_what_a_resumed_run_may_change(place, tmp_path):
    """Settings that save memory, and the number of steps unless the learning rate schedule depends on it."""
    output = tmp_path / "out"
    finished(place, output, max_train_steps=1)
    finished(place, output, max_train_steps=2, gradient_checkpointing="", cache_memory_gb=1, cache_ram_gb=1)
    falling = {"lr_scheduler": "linear", "max_train_steps": 1}
    finished(place, tmp_path / "falling", **falling)
    longer = run(place, tmp_path / "falling", **(falling | {"max_train_steps": 2}))
    refused(longer, "was written with max_train_steps = 1, now it is 2")


def test_losses_are_logged_to_tensorboard(place, tmp_path):
    output = tmp_path / "out"
    finished(place, output, report_to="tensorboard", logging_steps=1, max_train_steps=1)
    (events,) = (output / "logs" / "aria").glob("events.out.tfevents.*")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logged = EventAccumulator(str(events.parent))
    logged.Reload()
    row = json.loads((output / "losses.jsonl").read_text())
    (point,) = logged.Scalars("train/output")
    assert point.step == 1 and point.value == pytest.approx(row["output"], rel=1e-6)


OWN = """
from dataclasses import dataclass
import aria, torch
from aria.distill.objectives import Objective
@dataclass(frozen=True)
class Broken(Objective):
    def __call__(self, inputs, teacher, student):
        return {}["here"]
@dataclass(frozen=True)
class Scalar(Objective):
    def __call__(self, inputs, teacher, student):
        return (student.output - teacher.output).square().mean()
@dataclass(frozen=True)
class Late(aria.Allocator):
    def __call__(self, estimate, mass):
        raise LookupError("late")
"""


def test_an_error_in_a_users_part_is_one_line(place, tmp_path):
    """An allocator that fails is reported at the start, however long the warm-up of the sampler."""
    path = tmp_path / "own.py"
    path.write_text(OWN)
    for number, (code, sentence, more) in enumerate([
        (1, "own.py line 8: KeyError: 'here'", {"objective": f"{path}:Broken"}),
        (2, "Scalar must return one loss per sample, (2,) floats, got torch", {"objective": f"{path}:Scalar"}),
        (1, "own.py line 16: LookupError: late", {"allocator": f"{path}:Late", "warmup": 1000}),
    ]):
        result = run(place, tmp_path / f"out{number}", **more)
        assert (result.exit_code, sentence in result.stderr) == (code, True), result.output
        assert result.stderr.splitlines()[-1].startswith("Error: ") and "Traceback" not in result.output


def test_pickled_weights_are_not_opened(place, tmp_path):
    """Neither a teacher's nor a student's: unpickling could run code."""
    import torch
    from safetensors.torch import load_file

    for name, folder in (("teacher", "unet"), ("student", "")):
        shutil.copytree((place / name).resolve(), tmp_path / name)
        weights = tmp_path / name / folder / "diffusion_pytorch_model.safetensors"
        torch.save(load_file(weights), weights.with_suffix(".bin"))
        weights.unlink()
        flag = {"pretrained_model_name_or_path": tmp_path / name} if name == "teacher" else {"student": tmp_path / name}
        result = run(place, tmp_path / "out", **flag)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
        assert "safetensors" in result.stderr


def test_losses_that_are_not_finite_stop_the_run(place, tmp_path):
    """Exit code 1; the previous checkpoint stays, with finite weights."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(place / "student", tmp_path / "student")
    path = tmp_path / "student" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_out.bias"][0] = torch.nan
    save_file(weights, path)
    output = tmp_path / "out"
    sentence = "the loss is not finite at step 0, on a sample of region"
    refused(run(place, output, student=tmp_path / "student"), sentence, code=1)
    assert not list(output.glob("checkpoint-*")) and not (output / "model_index.json").exists()


def test_help_names_every_setting():
    from aria.distill.settings.config import settings

    shown = CliRunner().invoke(main, ["distill", "--help"])
    assert shown.exit_code == 0
    for setting in settings():
        assert f"--{setting.name}" in shown.output
