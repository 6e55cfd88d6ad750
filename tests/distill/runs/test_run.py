"""``aria distill`` from folders to a pipeline, in processes: resumed, killed, stopped by a signal, on two ranks."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time

import pytest
import torch
from click.testing import CliRunner
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

import aria
from aria.cli import main
from aria.distill.data import Conditions
from aria.distill.data.latents import Latents
from aria.distill.engine.weights import FILE
from aria.distill.models.pipelines import open_model, open_pipeline
from aria.distill.runs import checkpoint
from aria.distill.settings.config import AdamW
from aria.distill.students import prune
from tests.distill import tiny
from tests.distill.forks import Forks, wait_for
from tests.distill.runs.test_checkpoint import assert_same, state
from tests.processes import rendezvous

pytestmark = pytest.mark.slow
PROMPTS = [f"{kind} {i}" for i in range(8) for kind in ("cat", "dog", "hut")]
TEACHERS = ("sd", "sdv", "sdxl")


@pytest.fixture(scope="module")
def forks(tmp_path_factory, sd_folder):
    made = Forks(tmp_path_factory.mktemp("forks"), sd_folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory, sd_folder, sd_v_folder, sdxl_folder):
    """Teachers, small students and prompts."""
    folder = tmp_path_factory.mktemp("place")
    for name, teacher in zip(TEACHERS, (sd_folder, sd_v_folder, sdxl_folder), strict=True):
        (folder / name).symlink_to(teacher)
        prune(teacher, folder / f"{name}-student", preset="bk-base" if name == "sdxl" else "bk-tiny", width=0.5)
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    return folder


def command_line(place, output, teacher="sd", **changes):
    """The arguments of a short run; its cache is shared."""
    settings = {
        "pretrained_model_name_or_path": place / teacher,
        "student": place / f"{teacher}-student",
        "prompts": place / "prompts.txt",
        "cache_dir": place / f"{teacher}-cache",
        "output_dir": output,
        "max_train_steps": 6,
        "train_batch_size": 4,
        "num_images": 6,
        "num_inference_steps": 2,
        "checkpointing_steps": 3,
        "logging_steps": 2,
        "warmup": 1,
        "learning_rate": 1e-3,
    }
    flags = [text for name, value in (settings | changes).items() for text in (f"--{name}", value)]
    return ["distill", *(text for text in flags if text != ""), "--quiet"]


def logs(output):
    rows = [json.loads(line) for line in (output / "losses.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "steps_per_second"} for row in rows]


def same_runs(one, other, step):
    """Two outputs are equal bit for bit: logs, and every tensor of the checkpoint and of the pipeline."""
    assert logs(one) == logs(other)
    assert (one / "discrepancies.jsonl").read_text() == (other / "discrepancies.jsonl").read_text()
    names = sorted(path.relative_to(one) for path in (one / f"checkpoint-{step}").rglob("*.safetensors"))
    assert len(names) >= 5
    for name in [*names, "unet/diffusion_pytorch_model.safetensors"]:
        assert_same(load_file(one / name), load_file(other / name))


def killed_after(step, run, copy):
    """The folder of a run killed at the end, with only one of its checkpoints."""
    copy.mkdir()
    shutil.copytree(run / f"checkpoint-{step}", copy / f"checkpoint-{step}")
    for name in ("losses.jsonl", "discrepancies.jsonl", "partition.safetensors", "config.json"):
        shutil.copy(run / name, copy / name)
    return copy


RESUMED = {
    "sd": {"every": 2, "max_train_steps": 7, "checkpoints_total_limit": 3},
    "sdv": {"gradient_accumulation_steps": 2, "train_batch_size": 2, "cache_memory_gb": 0, "correction": "importance",
            "no_use_ema": "", "student_prediction": "epsilon"},
    "sdxl": {"low_rank": 2, "objective": "output"},
}


@pytest.mark.parametrize("teacher", TEACHERS)
def test_a_resumed_run_equals_an_uninterrupted_one_and_its_pipeline_opens(teacher, place, forks, tmp_path):
    more = RESUMED[teacher]
    steps = more.get("max_train_steps", 6)
    one = tmp_path / "one"
    forks.done(*command_line(place, one, teacher, **more))
    other = killed_after(3, one, tmp_path / "other")
    ended = forks.done(*command_line(place, other, teacher, **more))
    assert ended.stdout.strip() == str(other) and "%|" not in ended.stderr
    same_runs(one, other, steps)
    delivered = load_file(one / "unet" / FILE)
    saved = {name: load_file(one / f"checkpoint-{steps}" / name / FILE)
             for name in ("unet", "unet_ema") if (one / f"checkpoint-{steps}" / name).exists()}  # fmt: skip
    assert_same(delivered, saved["unet" if "no_use_ema" in more else "unet_ema"])
    assert len(saved) == (1 if "no_use_ema" in more else 2)
    assert [row["step"] for row in logs(one)] == [2, 4, 6, 7][: 4 if steps == 7 else 3]
    config = json.loads((one / "unet" / "config.json").read_text())
    assert config["_class_name"] == "UNet2DConditionModel" and "_name_or_path" not in config
    pipeline = DiffusionPipeline.from_pretrained(one)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("cat 1", num_inference_steps=2, output_type="np").images
    assert image.shape == (1, 16, 16, 3)
    assert pipeline.scheduler.config.prediction_type == "epsilon"  # sdv's teacher predicts velocities
    assert pipeline.unet.num_parameters() == open_model(place / f"{teacher}-student").num_parameters()
    card = (one / "README.md").read_text()
    assert f'base_model: "{teacher}"' in card and f"trained for {steps} steps" in card
    first, last = logs(one)[0], logs(one)[-1]
    assert f"| 2 | {first['output']:.4g}" in card and f"| {steps} | {last['output']:.4g}" in card
    assert str(tmp_path) not in card and str(place) not in card and "/" not in card.split("## Settings")[1]


def opens_or_is_none(output):
    """A folder with the index of a pipeline is a whole pipeline."""
    if (output / "model_index.json").exists():
        DiffusionPipeline.from_pretrained(output)


def test_a_run_killed_at_random_moments_resumes_to_the_same_result(place, forks, tmp_path):
    more = {"max_train_steps": 6, "checkpointing_steps": 1, "objective": "output"}
    forks.done(*command_line(place, tmp_path / "one", **more))
    chance, kills, output = random.Random(0), 0, tmp_path / "other"
    while True:
        pid = forks.start(*command_line(place, output, **more))
        if kills < 3:
            before, late = set(output.glob("checkpoint-*")), time.monotonic() + 10
            while set(output.glob("checkpoint-*")) == before and time.monotonic() < late:
                time.sleep(0.005)
            time.sleep(chance.uniform(0.0, 0.2))  # five more checkpoints and the delivery are to come
            os.kill(pid, signal.SIGKILL)
        ended = forks.wait(pid)
        opens_or_is_none(output)
        if ended.code == 0:
            break
        assert ended.code == -signal.SIGKILL, ended.stderr[-2000:]
        kills += 1
    assert kills >= 1
    same_runs(tmp_path / "one", output, 6)


def test_a_run_locks_its_folder_and_stops_on_a_signal(place, forks, tmp_path):
    output = tmp_path / "run"
    pid = forks.start(*command_line(place, output, max_train_steps=5000, logging_steps=1))
    wait_for(lambda: (output / "losses.jsonl").exists() and len(logs_text(output)) > 1)
    second = CliRunner().invoke(main, list(map(str, command_line(place, output))))
    assert second.exit_code == 2
    assert second.stderr.splitlines()[-1].startswith(f"Error: another run is writing to {output}")
    os.kill(pid, signal.SIGTERM)
    ended = forks.wait(pid)
    assert ended.code == 128 + signal.SIGTERM, ended.stderr
    step = checkpoint.step_of(checkpoint.folders(output)[-1])
    assert f"stopped at step {step} of 5000; run the same command to resume" in ended.stderr
    assert not (output / "model_index.json").exists()
    again = forks.done(*command_line(place, output, max_train_steps=step + 1))
    assert again.stdout.strip() == str(output)


def logs_text(output):
    return (output / "losses.jsonl").read_text().splitlines()


def on_two_ranks(forks, arguments):
    """As torchrun starts them."""
    with rendezvous(2) as places:
        ended = [forks.wait(pid) for pid in [forks.start(*arguments, env=env) for env in places]]
    assert [one.code for one in ended] == [0, 0], [one.stderr[-2000:] for one in ended]
    return ended


def test_two_ranks_train_as_one_with_the_same_batch(place, forks, tmp_path):
    more = {"max_train_steps": 6, "checkpointing_steps": 3, "logging_steps": 2, "objective": "output"}
    more["adam_epsilon"] = 1e-3  # some gradients are zero but for rounding, which Adam would make steps of
    forks.done(*command_line(place, tmp_path / "one", **more))
    two = tmp_path / "two"
    ended = on_two_ranks(forks, command_line(place, two, train_batch_size=2, **more))
    assert sorted(one.stdout.strip() for one in ended) == ["", str(two)]
    one, other = (load_file(tmp_path / run / "checkpoint-6/unet/diffusion_pytorch_model.safetensors")
                  for run in ("one", "two"))  # fmt: skip
    apart, length = (torch.cat([x.flatten() for x in weights]).norm()
                     for weights in ([other[name] - one[name] for name in one], one.values()))  # fmt: skip
    assert 0 < float(apart) < 1e-5 * float(length)
    for expected, actual in zip(logs(tmp_path / "one"), logs(two), strict=True):
        assert expected.keys() == actual.keys() and actual["output"] == pytest.approx(expected["output"], rel=1e-4)
    rows = [[json.loads(line) for line in (tmp_path / run / "discrepancies.jsonl").read_text().splitlines()]
            for run in ("one", "two")]  # fmt: skip
    assert [(r["step"], r["region"], r["n"]) for r in rows[0]] == [(r["step"], r["region"], r["n"]) for r in rows[1]]
    # checkpoint 3 stands between two lines of the log, so what each rank had summed up must come back
    parts = shutil.copytree(two, tmp_path / "parts")
    shutil.rmtree(parts / "checkpoint-6")
    on_two_ranks(forks, command_line(place, parts, train_batch_size=2, **more))
    same_runs(two, parts, 6)


def test_launchers_start_the_same_run(place, forks, tmp_path):
    """``accelerate launch -m aria.cli`` runs the module and passes its configuration in environment variables."""
    forks.done(*command_line(place, tmp_path / "one", max_train_steps=2))
    configured = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}
    words = command_line(place, tmp_path / "two", max_train_steps=2)
    ended = forks.wait(forks.start(*words, env=configured, module=True))
    assert ended.code == 0, ended.stderr[-2000:]
    same_runs(tmp_path / "one", tmp_path / "two", 2)


def test_conditions_read_from_the_disk_ahead_are_resumed(place, forks, tmp_path):
    if not (place / "sd-cache").exists():
        forks.done(*command_line(place, tmp_path / "run", max_train_steps=1))
    cache, pipeline = place / "sd-cache", open_pipeline(place / "sd")

    def make():
        conditions = Conditions(cache / "conditions", residency="disk")
        partition = aria.partitioners.KMeans(3).fit(conditions.pool())
        sampler = aria.Sampler(partition, timesteps=1000)
        student, images = open_model(place / "sd-student"), Latents(cache / "latents", residency="disk")
        optimiser = AdamW(learning_rate=1e-3)
        data = sampler, images, conditions
        return tiny.distiller(pipeline, student, *data, batch_size=4, ahead=2, optimiser=optimiser)

    whole, half = make(), make()
    for _ in range(5):
        whole.step()
    for _ in range(2):
        half.step()
    resumed = make()
    checkpoint.load(resumed.state(), tiny.save(half, tmp_path, {}), settings={})
    for _ in range(3):
        resumed.step()
    assert_same(state(whole), state(resumed))
