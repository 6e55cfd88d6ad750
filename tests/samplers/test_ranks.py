"""Several ranks under torchrun draw and learn what one process does with the joined batch, step for step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.samplers.ranks_worker import STEPS, run

WORKER = Path(__file__).with_name("ranks_worker.py")


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_equal_one_process(ranks, tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={ranks}",
        str(WORKER),
        str(tmp_path),
    ]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    for timesteps in (None, 1000):
        alone = run(timesteps)
        parts = [load_file(tmp_path / f"{timesteps}-{rank}.safetensors") for rank in range(ranks)]
        for step in range(STEPS):
            for name in ("index", "weight"):
                joined = torch.cat([part[f"{step}.{name}"] for part in parts])
                assert torch.equal(joined, alone[f"{step}.{name}"]), (step, name)
            for part in parts:
                assert torch.equal(part[f"{step}.probs"], alone[f"{step}.probs"]), step
        for name in (name for name in alone if name.startswith("state.")):
            assert all(torch.equal(part[name], alone[name]) for part in parts), name
