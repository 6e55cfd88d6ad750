"""The examples run as they are written, in processes of their own and with warnings as errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import run_script

pytestmark = pytest.mark.slow
PLUG_IN = """
from aria import Allocator

class Mine(Allocator):
    def __call__(self, estimate, mass):
        return mass**2
"""
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def run(tmp_path):
    return lambda name, *arguments: run_script(EXAMPLES / name, *arguments, output=tmp_path / name, filters="error")


def test_plain_loop_in_a_fresh_interpreter():
    command = [sys.executable, "-W", "error", str(EXAMPLES / "plain_loop.py")]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("share of the draws") == 3


def test_dataloader(run):
    finished = run("dataloader.py")
    assert finished.code == 0, finished.stderr
    assert "resumed at step 50, now at 100" in finished.stdout


def test_random_conditioning(run):
    finished = run("random_conditioning.py")
    assert finished.code == 0, finished.stderr
    assert finished.stdout.count("share of the draws by") == 2


def test_tiny_teacher_is_a_pipeline_and_never_replaces_a_folder(run, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    finished = run("tiny_teacher.py", tmp_path / "teacher")
    assert finished.code == 0, finished.stderr
    assert finished.stdout.strip() == str(tmp_path / "teacher")
    weights = {path.suffix for path in (tmp_path / "teacher").rglob("*") if path.stat().st_size > 1 << 16}
    assert weights == {".safetensors"}
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "teacher")
    image = pipeline("a photo of a red fox in the snow", num_inference_steps=2, output_type="np").images
    assert image.shape == (1, 16, 16, 3)
    ids = pipeline.tokenizer(["a cat", "a dog"]).input_ids
    assert ids[0] != ids[1] and all(pipeline.tokenizer.unk_token_id not in one[1:-1] for one in ids)
    again = run("tiny_teacher.py", tmp_path / "teacher")
    assert again.code == 2 and "already exists" in again.stderr


@pytest.mark.parametrize(("name", "columns"), [("guidance", "without guidance"), ("halving", "teacher in as few")])
def test_distillation_of_guidance_and_of_steps(name, columns, run, tmp_path):
    pytest.importorskip("diffusers")
    short = ("--teacher_steps", "2", "--steps", "2", "--samples", "20", "--output", tmp_path / "numbers.json")
    finished = run(f"{name}.py", *short)
    assert finished.code == 0, finished.stderr
    assert columns in finished.stdout
    record = json.loads((tmp_path / "numbers.json").read_text())
    assert record["command"] == f"examples/{name}.py" and record["settings"]["steps"] == 2 and record["rows"]


def test_demo_measures_three_arms(run):
    finished = run("demo.py", "--steps", "150", "--json")
    assert finished.code == 0, finished.stderr
    record = json.loads(finished.stdout)
    assert record["mean over regions"].keys() == {"RC", "√pool", "ARIA"}
    assert len(record["regions"]) == 12
    assert abs(sum(row["share"] for row in record["regions"]) - 1) < 1e-9


def test_demo_takes_a_plug_in_and_refuses_mistakes(run, tmp_path):
    (tmp_path / "mine.py").write_text(PLUG_IN)
    finished = run("demo.py", "--steps", "20", "--json", "--allocator", f"{tmp_path}/mine.py:Mine")
    assert json.loads(finished.stdout)["sampler"]["allocator"] == "mine.py:Mine()"
    finished = run("demo.py", "--allocator", "proportionl")
    assert finished.code == 2
    assert "unknown allocator 'proportionl' (did you mean 'proportional'?)" in finished.stderr
    assert "Traceback" not in finished.stderr
