"""The engine's benchmark runs through, on models of a few weights, and writes all of its results."""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import math
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.processes import Forked, run_script

pytest.importorskip("diffusers")
pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "engine.py"


def measured(sizes, out, picture):
    """All sizes. The memory of a candidate is measured in a process that is forked instead of started, and once, since
    it is the same program for another batch: the commands of all are noted in a file."""
    sys.path.insert(0, str(SCRIPT.parent))
    engine = importlib.import_module("engine")
    commands, ended = [], {}

    def start(command, **settings):
        assert command[:2] == [sys.executable, str(SCRIPT)] and command[-2] == "--memory_of"
        commands.append(command[2:])
        out.with_name("commands.json").write_text(json.dumps(commands))
        name = command[-1]
        if name not in ended:
            ctypes.CDLL(None).malloc_trim(0)  # what this process has let go of would not count as growth
            ended[name] = run_script(SCRIPT, *command[2:], output=out.with_name(f"memory-{len(ended)}"))
        return subprocess.CompletedProcess(command, ended[name].code, ended[name].stdout, ended[name].stderr)

    engine.subprocess.run = start
    engine.matrix_rate = cache(engine.matrix_rate)  # of one machine
    engine.WARM = engine.PARTS = 1
    flags = ["--preset", "tiny", "--precision", "bf16", *sizes, "--out", out, "--plot", picture]
    sys.argv = [str(SCRIPT), *map(str, flags)]
    gc.freeze()  # the script collects garbage, which is its own only
    engine.main()


def test_it_measures_all_candidates(tmp_path):
    out, picture = tmp_path / "engine.json", tmp_path / "engine.svg"
    sizes = "--batch", 1, "--batch", 2
    finished = Forked(lambda: measured(sizes, out, picture), tmp_path / "engine").wait()
    assert finished.code == 0, finished.stderr[-3000:]
    commands = json.loads((tmp_path / "commands.json").read_text())
    common = ["--preset", "tiny", "--student", "bk-tiny", "--device", "cpu", "--precision=bf16"]
    names = ["engine", "by hand", "by hand, cached"]
    assert commands == [[*common, f"--batch={batch}", "--memory_of", name] for batch in (1, 2) for name in names]
    record = json.loads(out.read_text())
    assert record["command"] == "benchmarks/engine.py --preset tiny --precision bf16 --batch 1 --batch 2"
    assert [student["batch"] for student in record["students"]] == [1, 2]
    student, larger = record["students"]
    assert larger["flops_of_a_step"] == 2 * student["flops_of_a_step"]
    assert [row["name"] for row in student["rows"]] == names
    for row in student["rows"]:
        assert row["images_per_second"] > 0 and math.isfinite(row["peak_mb"]) and row["engine_is_faster_by"] > 0
        assert row["quarters"][0] <= row["images_per_second"] <= row["quarters"][1]
    assert student["rows"][0]["engine_is_faster_by"] == 1.0 and student["rows"][0]["peak_mb"] > 0
    assert sum(student["parts"].values()) == pytest.approx(1.0)
    assert all(share >= 0 for share in student["parts"].values())
    assert student["draw_and_observe"] == pytest.approx(student["parts"]["draw"] + student["parts"]["observe"])
    assert 0 < student["utilisation"] < 1 and student["flops_of_a_step"] > 1e6
    assert picture.read_text().lstrip().startswith("<?xml") and "bk-tiny, 0." in finished.stdout


def test_a_missing_gpu_is_one_line(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    finished = run_script(SCRIPT, "--preset", "sd1", output=tmp_path / "engine")
    assert finished.code == 2 and "there is no CUDA device here" in finished.stderr
