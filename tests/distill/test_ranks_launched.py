"""``aria distill`` started by the real launchers, with two processes on the CPU: replicated, sharded, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

from aria.distill.engine.weights import FILE
from aria.distill.runs import checkpoint
from aria.distill.students import prune
from tests.distill import pipelines
from tests.distill.forks import ROOT, Forks, wait_for

PROMPTS = [f"{kind} {i}" for i in range(8) for kind in ("cat", "dog", "hut")]
STEPS, BATCH = 30, 4
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
ACCELERATE = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0")  # fmt: skip
# Sharding takes time for each weight, however small: of three stages, one with attention.
FEW = {
    "block_out_channels": (4, 8, 8),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A teacher, a student that keeps its blocks apart from it, prompts, and the run of one process."""
    folder = tmp_path_factory.mktemp("place")
    pipelines.save_sd(folder / "sd", **FEW)
    prune(folder / "sd", folder / "student", preset="bk-tiny")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    forks = Forks(tmp_path_factory.mktemp("forks"), folder / "sd")
    forks.done(*command_line(folder, folder / "one", train_batch_size=BATCH))
    yield folder
    forks.close()


def command_line(place, output, **changes):
    settings = {
        "pretrained_model_name_or_path": place / "sd",
        "student": place / "student",
        "prompts": place / "prompts.txt",
        "cache_dir": place / "cache",
        "output_dir": output,
        "max_train_steps": STEPS,
        "train_batch_size": BATCH // 2,
        "num_images": 6,
        "num_inference_steps": 2,
        "checkpointing_steps": 10,
        "logging_steps": 5,
        "warmup": 2,
        "learning_rate": 1e-3,
        "adam_epsilon": 1e-3,  # smaller, Adam would make steps of rounding errors
    }
    flags = [text for name, value in (settings | changes).items() for text in (f"--{name}", str(value))]
    return ["distill", *(text for text in flags if text), "--quiet"]


def launched(launcher, arguments):
    """As it is documented: no variable is set that a user does not set."""
    program = [sys.executable, *launcher, "-m", "aria.cli", *arguments]
    env = {name: value for name, value in os.environ.items() if name not in ("ACCELERATE_USE_CPU", "OMP_NUM_THREADS")}
    return subprocess.Popen(program, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(process, seconds=240, code=0):
    try:
        outputs = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert process.returncode == code, outputs[1][-3000:]
    return outputs


def far(one, other):
    expected, actual = load_file(one), load_file(other)
    assert expected.keys() == actual.keys()
    apart = torch.cat([(expected[name] - actual[name]).flatten().double() for name in expected])
    return float(apart.norm() / torch.cat([value.flatten().double() for value in expected.values()]).norm())


def rows(output, name="discrepancies.jsonl"):
    return [json.loads(line) for line in (output / name).read_text().splitlines()]


def same_weights(one, other):
    for path in (f"checkpoint-{STEPS}/unet", f"checkpoint-{STEPS}/unet_ema", "unet"):
        assert far(one / path / FILE, other / path / FILE) < 1e-5


def same_run(one, other):
    """The draws are the same, the weights within rounding."""
    same_weights(one, other)
    counts = [[(row["step"], row["region"], row["n"]) for row in rows(run)] for run in (one, other)]
    assert counts[0] == counts[1]
    for expected, actual in zip(rows(one, "losses.jsonl"), rows(other, "losses.jsonl"), strict=True):
        assert actual["output"] == pytest.approx(expected["output"], rel=1e-4)


def test_torchrun_divided(place):
    output = place / "divided"
    words = command_line(place, output, fsdp="", validation_prompts="cat 1", validation_steps=15)
    outputs = ended(launched(TORCHRUN, words))
    assert outputs[0].strip() == str(output)
    same_run(place / "one", output)
    pipeline = DiffusionPipeline.from_pretrained(output)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("cat 1", num_inference_steps=1, output_type="np").images.shape == (1, 16, 16, 3)
    configs = [(run / "unet" / "config.json").read_text() for run in (place / "one", output)]
    assert configs[0] == configs[1]
    assert [row["step"] for row in rows(output, "validation.jsonl")] == [15, 30]
    assert len(list((output / "samples").glob("*.png"))) == 2


def test_torchrun_replicated_stopped_by_a_signal_to_one_rank_and_resumed_by_accelerate(place):
    """The signal ends both ranks with a checkpoint, another launcher resumes, and the result is that of one process."""
    output = place / "stopped"
    process = launched(TORCHRUN, command_line(place, output, logging_steps=1))
    wait_for(lambda: (output / "losses.jsonl").exists() and len(rows(output, "losses.jsonl")) > 0, seconds=120)
    ranks = children(process.pid)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGTERM)
    outputs = ended(process, code=1)  # torchrun's, for the 143 of the first rank
    step = checkpoint.step_of(checkpoint.folders(output)[-1])
    assert step < STEPS and f"stopped at step {step} of {STEPS}; run the same command to resume" in outputs[1]
    assert not (output / "model_index.json").exists()
    checkpoint.check(checkpoint.folders(output)[-1])
    ended(launched(ACCELERATE, command_line(place, output)))
    same_weights(place / "one", output)


def children(pid):
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return sorted(map(int, listed.read_text().split()))
