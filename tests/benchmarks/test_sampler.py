"""The sampler's benchmark runs through and counts what a step costs the device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import aria
from benchmarks import on_gpu
from tests.processes import run_script

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "sampler.py"
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def partition(regions, device="cpu"):
    pool = aria.Pool(columns={"region": [row % regions for row in range(4 * regions)]})
    return aria.partitioners.Labels("region").fit(pool).to(device)


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return request.param


@pytest.mark.parametrize("tracker", ["ema", "bank"])
def test_what_is_recorded_draws_as_the_sampler_does(tracker, device):
    """Else its time would be that of something else."""
    regions = partition(30, device)
    sampler, recorded = aria.Sampler(regions, tracker, "proportional"), on_gpu.Recorded(regions, tracker, 16)
    for _ in range(12):
        draw, (region, index) = sampler.draw(16), recorded.draw(16)
        assert torch.equal(draw.region, region) and torch.equal(draw.index, index)
        signal = 1.0 + draw.region.float()
        sampler.observe(draw, signal)
        recorded.observe((region, index), signal)
    assert len(set(sampler.probs().tolist())) > 1


def test_operations_are_counted():
    x = torch.ones(3)
    assert on_gpu.operations(lambda: x.add(1).mul(2)) == 2 and on_gpu.operations(lambda: None) == 0


@pytest.mark.gpu
def test_launches_are_counted():
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    x = torch.ones(3, device="cuda")
    assert on_gpu.launches(lambda: x.add(1).mul(2)) == 2


@pytest.mark.slow
def test_every_case_is_timed(tmp_path):
    out = tmp_path / "sampler.json"
    finished = run_script(SCRIPT, "--quick", "--out", out, output=tmp_path / "sampler")
    assert finished.code == 0, finished.stderr[-3000:]
    rows = {(row["name"], row["regions"]): row for row in json.loads(out.read_text())["rows"]}
    assert {name for name, _ in rows} >= {"bare torch", "aria ema", "aria bank"}
    for row in rows.values():
        assert row["draw"] > 0 and row["observe"] > 0 and row["operations"] > 0 and row["launches"] is None
    assert all(rows[name, 10]["operations"] == rows[name, 1000]["operations"] for name in ("aria ema", "aria bank"))
