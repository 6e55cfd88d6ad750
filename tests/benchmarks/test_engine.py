"""The engine's benchmark runs through, on models of a few weights, and writes what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("diffusers")
pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "engine.py"


def run(*arguments):
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=env)


def test_it_measures_all_candidates(tmp_path):
    out, picture = tmp_path / "engine.json", tmp_path / "engine.svg"
    sizes = "--batch", 1, "--batch", 2
    finished = run("--preset", "tiny", "--precision", "bf16", *sizes, "--out", out, "--plot", picture)
    assert finished.returncode == 0, finished.stderr[-3000:]
    record = json.loads(out.read_text())
    assert record["command"] == "benchmarks/engine.py --preset tiny --precision bf16 --batch 1 --batch 2"
    assert [student["batch"] for student in record["students"]] == [1, 2]
    student, larger = record["students"]
    assert larger["flops_of_a_step"] == 2 * student["flops_of_a_step"]
    assert [row["name"] for row in student["rows"]] == ["engine", "by hand", "by hand, cached"]
    for row in student["rows"]:
        assert row["images_per_second"] > 0 and row["peak_mb"] > 0 and row["engine_is_faster_by"] > 0
        assert row["quarters"][0] <= row["images_per_second"] <= row["quarters"][1]
    assert student["rows"][0]["engine_is_faster_by"] == 1.0
    assert sum(student["parts"].values()) == pytest.approx(1.0)
    assert all(share >= 0 for share in student["parts"].values())
    assert student["draw_and_observe"] == pytest.approx(student["parts"]["draw"] + student["parts"]["observe"])
    assert 0 < student["utilisation"] < 1 and student["flops_of_a_step"] > 1e6
    assert picture.read_text().lstrip().startswith("<?xml") and "bk-tiny, 0." in finished.stdout


def test_a_gpu_that_is_not_there_is_one_line():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    finished = run("--preset", "sd1")
    assert finished.returncode == 2 and "there is no CUDA device here" in finished.stderr
