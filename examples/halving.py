"""Fewer steps: a student that does in four sampling steps what its teacher does in sixteen, after two halvings.

    python examples/halving.py        # prints a table, writes benchmarks/results/halving.json

World and teacher are those of ``guidance.py``. The student of each stage starts as a copy of its teacher and is the
teacher of the next stage. At the end all models generate images from the same noise. The gap is the mean squared
difference from the image that the first teacher generates in sixteen DDIM steps. For comparison, the table shows the
gap of the first teacher when it uses as few steps as the student.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from guidance import RESULTS, ask, taught, trained, write
from torch import Tensor

from aria.distill import NoiseSchedule, Teacher, generation_gap, halved
from aria.tasks import Digits, World

MOST = 16


def scheduler() -> DDIMScheduler:
    """DDIM with the world's noise levels, configured as in a halved pipeline."""
    levels: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDIMScheduler(
        **levels, timestep_spacing="trailing", prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False
    )


@torch.no_grad()
def made(model: Any, condition: dict[str, Tensor], noise: Tensor, steps: int) -> Tensor:
    """(N, …) images, generated with diffusers' scheduler."""
    walk, images = scheduler(), noise
    walk.set_timesteps(steps)
    for timestep in walk.timesteps:
        output = ask(model, images, timestep.expand(len(images)), condition)
        images = walk.step(output, timestep, images).prev_sample
    return images


def examined(world: World, models: dict[int, Any], samples: int, seed: int) -> list[dict[str, float]]:
    """The gap for every number of steps: of the student trained for it and of the first teacher."""
    generator = torch.Generator().manual_seed(1_000_003 + seed)
    condition = world.conditions.gather(torch.arange(samples) % len(world.pool))
    noise = torch.randn(samples, 1, 8, 8, generator=generator)
    first = models[MOST]
    target, rows = made(first, condition, noise, MOST), []
    for steps, model in list(models.items())[1:]:
        student, teacher = (made(one, condition, noise, steps) for one in (model, first))
        gaps = {"student": student, "teacher in as few": teacher}
        rows.append({"steps": steps} | {name: float(generation_gap(target, x).mean()) for name, x in gaps.items()})
    return rows


def main() -> None:
    """Train the stages, evaluate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher_steps", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=800, help="training steps of each stage")
    parser.add_argument("--samples", type=int, default=600, help="number of samples in the evaluation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS / "halving.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    world = Digits().world(arguments.seed)
    teacher = taught(world, arguments.teacher_steps, arguments.seed)
    levels = NoiseSchedule.of(scheduler())
    assert torch.allclose(levels.alpha, teacher.schedule.alpha, atol=1e-5)
    models, steps, begun = {MOST: teacher.model}, MOST, time.process_time()
    while steps > 4:
        stage = halved(Teacher(models[steps], ask, levels, "v_prediction"), scheduler(), steps)
        student = copy.deepcopy(models[steps]).requires_grad_(True)
        models[steps // 2] = trained(stage, student, world, "labels('style')", arguments.steps, arguments.seed,
                                     weighting="truncated_snr")  # fmt: skip
        steps //= 2
    seconds = time.process_time() - begun
    rows = examined(world, models, arguments.samples, arguments.seed)
    print(f"{'steps':>6}{'student':>12}{'teacher in as few':>20}")
    for row in rows:
        print(f"{row['steps']:>6}{row['student']:>12.5f}{row['teacher in as few']:>20.5f}")
    write(arguments.output, "halving.py", arguments, {"cpu_seconds": round(seconds), "rows": rows})


if __name__ == "__main__":
    main()
