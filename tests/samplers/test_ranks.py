"""Several ranks under torchrun draw and learn what one process does with the joined batch, step for step."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.samplers.ranks_worker import ARMS, STEPS, run

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
    for arm in ARMS:
        alone = run(arm)
        parts = [load_file(tmp_path / f"{arm}-{rank}.safetensors") for rank in range(ranks)]
        # Sums of signals are exact. Sums of squares, which only standard errors use, are rounded in the last bit, and
        # the variance of a region whose signals are nearly equal magnifies that.
        same = torch.equal if arm != "ucb" else partial(torch.allclose, rtol=1e-6, atol=1e-12, equal_nan=True)
        for step in range(STEPS):
            joined = torch.cat([part[f"{step}.index"] for part in parts])
            assert torch.equal(joined, alone[f"{step}.index"]), (arm, step)
            joined = torch.cat([part[f"{step}.weight"] for part in parts])
            assert torch.allclose(joined, alone[f"{step}.weight"], rtol=1e-6, atol=0), (arm, step)
            assert all(same(part[f"{step}.probs"], alone[f"{step}.probs"]) for part in parts), (arm, step)
        for name in (name for name in alone if name.startswith("state.")):
            assert all(same(part[name], alone[name]) for part in parts), (arm, name)
    for rank in range(ranks):
        refusal = (tmp_path / f"refused-{rank}.txt").read_text()
        assert "all ranks need a sampler with the same settings, seed included" in refusal
