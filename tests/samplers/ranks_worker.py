"""What each rank runs under torchrun in ``test_ranks.py``: one run of a sampler, recorded to a file per rank."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

import aria

GLOBAL_BATCH, STEPS = 32, 25


ARMS = {
    "bank": ("bank", "proportional", None),
    "normalised": ("bank", "proportional", 1000),
    "ucb": ("ema", "ucb", None),
}


def run(arm: str) -> dict[str, torch.Tensor]:
    """Draws, probabilities and state of a run; the signals are a function of what is drawn."""
    pool = aria.Pool(columns={"label": [i * i % 17 for i in range(200)]})
    tracker, allocator, timesteps = ARMS[arm]
    partition = aria.partitioners.Labels("label").fit(pool)
    sampler = aria.Sampler(partition, tracker, allocator, correction="importance", timesteps=timesteps, seed=3)
    batch = GLOBAL_BATCH // sampler.ranks.place()[1]
    record = {}
    for step in range(STEPS):
        draw = sampler.draw(batch)
        wide = 10.0 ** (4 * torch.sin(draw.index + step)) if arm == "ucb" else 1.0
        signal = wide * (1 + draw.region + 0.37 * ((draw.index + step) % 5)).float() / 3
        timestep = (7 * draw.index + 13 * step) % 1000 if timesteps else None
        sampler.observe(draw, signal, timestep=timestep)
        record |= {f"{step}.index": draw.index, f"{step}.weight": draw.weight, f"{step}.probs": sampler.probs().clone()}
    return record | {f"state.{name}": tensor for name, tensor in sampler.state_dict().items()}


def work(folder: Path) -> None:
    """Every arm on this rank, and a sampler whose seed differs from that of the other ranks."""
    dist.init_process_group("gloo")
    for arm in ARMS:
        save_file(run(arm), folder / f"{arm}-{dist.get_rank()}.safetensors")
    lonely = aria.Sampler(aria.partitioners.OneRegion().fit(aria.Pool(size=3)), seed=dist.get_rank())
    try:
        lonely.observe(lonely.draw(2), torch.ones(2))
    except ValueError as error:
        (folder / f"refused-{dist.get_rank()}.txt").write_text(str(error))
    dist.destroy_process_group()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
