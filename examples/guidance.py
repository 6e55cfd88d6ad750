"""Guidance as an input: a student that needs one pass where its teacher needs two, at any guidance scale.

    python examples/guidance.py        # prints a table, writes benchmarks/results/guidance.json

A condition is a digit and a style; images are 8 × 8. The teacher is a small diffusers UNet, which is first trained to
match the exact denoiser of this world. The student starts as a copy of the teacher, takes the scale w as an additional
input, and learns the guided output for w from 1 to 4; regions are styles times bins of w. Both are evaluated on new
noise. The error is the mean squared difference from the teacher's guided output, averaged over conditions, noise
levels and scales. For comparison, the table shows the error of the teacher's own output without guidance.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

import aria
from aria.distill import GUIDANCE, AdamW, Distiller, Plan, Teacher, guidance_argument, guided, take_guidance
from aria.tasks import Digits, World
from aria.tasks.shapes import Course, fit

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
LEAST, MOST = 1.0, 4.0
BATCH = 32


def ask(model: nn.Module, noisy: Tensor, timestep: Tensor, condition: dict[str, Tensor]) -> Tensor:
    """Evaluate the UNet on the condition, and on the scale if it takes one."""
    scale = guidance_argument(model, condition, noisy)
    output: Tensor = model(noisy, timestep, condition["tokens"], return_dict=False, **scale)[0]
    return output


def network(world: World, seed: int) -> Any:
    """A UNet with one stage and cross-attention to the tokens of the condition."""
    torch.manual_seed(seed)
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(32,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        cross_attention_dim=world.conditions.null(1)["tokens"].shape[-1],
        attention_head_dim=8,
        norm_num_groups=8,
    )


def trained(teacher: Teacher, student: Any, world: World, partitioner: str, steps: int, seed: int, **more: Any) -> Any:
    """The student after ``steps`` steps on conditions allocated by ARIA, with its averaged weights."""
    partition = aria.registry.partitioner(partitioner).fit(world.pool)
    distiller = Distiller(
        teacher,
        student.train(),
        aria.Sampler(partition, timesteps=len(teacher.schedule), every=10, seed=seed),
        world.images,
        world.conditions,
        Plan(
            replacement="constant(1.0)",
            optimiser=AdamW(learning_rate=2e-3, adam_weight_decay=0.0, lr_scheduler="cosine", lr_warmup_steps=20),
            steps=steps,
            batch_size=BATCH,
            ema_decay=0.99,
            seed=seed,
            **more,
        ),
    )
    distiller.fit()
    distiller.check()
    with distiller.averaged():
        return copy.deepcopy(student).eval()


def taught(world: World, steps: int, seed: int) -> Teacher:
    """A network trained to match the world's exact denoiser; it predicts velocities."""
    exact, null, model = world.teacher, world.conditions.null(BATCH), network(world, seed)
    schedule = exact.schedule

    def loss(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(world.images), (BATCH,), generator=generator)
        index = torch.randint(len(world.pool), (BATCH,), generator=generator)
        dropped = torch.rand(BATCH, generator=generator) < 0.1
        timestep = torch.randint(len(schedule), (BATCH,), generator=generator)
        clean, _ = world.images.gather(rows)
        noisy = schedule.add_noise(clean, torch.randn(clean.shape, generator=generator), timestep)
        condition = world.conditions.gather(index)
        shape = {name: (-1,) + (1,) * (value.ndim - 1) for name, value in condition.items()}
        condition = {n: torch.where(dropped.view(shape[n]), null[n], value) for n, value in condition.items()}
        with torch.no_grad():
            noise = exact.denoiser(exact.model, noisy, timestep, condition)
        target = schedule.convert(noise, "epsilon", "v_prediction", noisy, timestep)
        return (ask(model, noisy, timestep, condition) - target).square().mean()

    fit(model, loss, Course(steps, BATCH, 2e-3), seed=seed, progress=lambda done, total: None)
    return Teacher(model, ask, schedule, "v_prediction")


def scaled(condition: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    return condition | {GUIDANCE: torch.full((len(condition["tokens"]),), scale)}


@torch.no_grad()
def errors(world: World, teacher: Teacher, student: Any, samples: int, seed: int) -> list[dict[str, float]]:
    """The error of the student, and of the teacher without guidance, for every scale."""
    generator = torch.Generator().manual_seed(1_000_003 + seed)
    index = torch.arange(samples) % len(world.pool)
    clean, _ = world.images.gather(torch.randint(len(world.images), (samples,), generator=generator))
    timestep = torch.randint(len(teacher.schedule), (samples,), generator=generator)
    noisy = teacher.schedule.add_noise(clean, torch.randn(clean.shape, generator=generator), timestep)
    condition, truth = world.conditions.gather(index), guided(teacher, world.conditions.null(1)).evaluate
    assert truth is not None
    plain, rows = ask(teacher.model, noisy, timestep, condition), []
    for scale in torch.linspace(LEAST, MOST, 13).tolist():
        target = truth(teacher.model, noisy, timestep, scaled(condition, scale))
        ours = ask(student, noisy, timestep, scaled(condition, scale))
        found = {"student": ours, "without guidance": plain}
        rows.append({"scale": scale} | {name: float((x - target).square().mean()) for name, x in found.items()})
    return rows


def write(path: Path, script: str, arguments: argparse.Namespace, record: dict[str, Any]) -> None:
    """Write the numbers with the command and settings that produced them."""
    settings = {name: value for name, value in vars(arguments).items() if name != "output"}
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__}
    made = {"command": f"examples/{script}", "settings": settings, "date": time.strftime("%Y-%m-%d"), **versions}
    path.write_text(json.dumps(made | record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Train, evaluate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher_steps", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=1500, help="of the student")
    parser.add_argument("--samples", type=int, default=1200, help="number of samples in the evaluation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS / "guidance.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    world = Digits().world(arguments.seed)
    teacher = taught(world, arguments.teacher_steps, arguments.seed)
    begun = time.process_time()
    with_guidance = guided(teacher, world.conditions.null(1))
    student, regions = take_guidance(copy.deepcopy(teacher.model)), f"bins('{GUIDANCE}', {LEAST}, {MOST}, 4)"
    regions = f"product(labels('style'), {regions})"
    student = trained(with_guidance, student, world, regions, arguments.steps, arguments.seed, guidance=(LEAST, MOST))
    seconds = time.process_time() - begun
    rows = errors(world, teacher, student, arguments.samples, arguments.seed)
    print(f"{'w':>6}{'student':>12}{'without guidance':>20}")
    for row in rows:
        print(f"{row['scale']:>6.2f}{row['student']:>12.5f}{row['without guidance']:>20.5f}")
    ours, plain = (sum(row[name] for row in rows) / len(rows) for name in ("student", "without guidance"))
    print(f"{'all':>6}{ours:>12.5f}{plain:>20.5f}   student: {ours / plain:.1%} of the error without guidance")
    summary = {"student": ours, "without guidance": plain, "share": ours / plain}
    write(arguments.output, "guidance.py", arguments, {"cpu_seconds": round(seconds), **summary, "rows": rows})


if __name__ == "__main__":
    main()
