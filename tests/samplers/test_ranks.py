"""Several ranks under torchrun draw and learn what one process does with the joined batch, step for step."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.processes import Forked, rendezvous
from tests.samplers.ranks_worker import ARMS, STEPS, run, work

pytestmark = pytest.mark.slow
WORKER = Path(__file__).with_name("ranks_worker.py")


def by_torchrun(folder):
    """Two ranks, started as users start them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(WORKER)]
    finished = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=240, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]


def forked(folder):
    """Four ranks, forked off this process."""
    with rendezvous(4) as places:
        started = [Forked(lambda: work(folder), folder / f"rank-{rank}", env) for rank, env in enumerate(places)]
        ended = [process.wait(240) for process in started]
    assert [process.code for process in ended] == [0] * 4, "\n".join(process.stderr for process in ended)


@pytest.mark.parametrize(("start", "ranks"), [(by_torchrun, 2), (forked, 4)])
def test_ranks_equal_one_process(start, ranks, tmp_path):
    start(tmp_path)
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
