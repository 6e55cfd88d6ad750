"""How much stratified draws and proportional allocation reduce the variance of an importance-weighted objective.

    python benchmarks/variance.py        # prints a table, writes benchmarks/results/variance.json

The objective is Σ p_k d_k over 32 regions with Zipf masses p and log-normal discrepancies d, estimated from batches of
64 noisy samples with weights p/q. Variances over 20 000 batches, relative to that of independent uniform draws.
"""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import click
import torch

import aria

REGIONS, BATCH, REPEATS, NOISE = 32, 64, 20_000, 0.3


def variance(allocator: str, stratified: bool, seed: int = 0) -> tuple[float, float]:
    """Variance of the estimate over batches, and its bias in standard errors."""
    random = torch.Generator().manual_seed(seed)
    mass = torch.arange(1, REGIONS + 1, dtype=torch.float64) ** -1.0
    mass = mass / mass.sum()
    truth = torch.randn(REGIONS, generator=random, dtype=torch.float64).exp()
    partition = aria.partitioners.Labels("region").fit(aria.Pool(columns={"region": range(REGIONS)}, weight=mass))
    sampler = aria.Sampler(
        partition, "ema(rate=0.5)", allocator, correction="importance", stratified=stratified, seed=seed
    )
    sampler.observe(torch.arange(REGIONS), truth)
    means = torch.empty(REPEATS, dtype=torch.float64)
    for repeat in range(REPEATS):
        draw = sampler.draw(BATCH)
        noise = 1 + NOISE * torch.randn(BATCH, generator=random, dtype=torch.float64)
        means[repeat] = (draw.weight * truth[draw.region] * noise).mean()
    bias = (means.mean() - (mass * truth).sum()) / (means.std() / REPEATS**0.5)
    return float(means.var()), float(bias)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results" / "variance.json")
def main(out: Path) -> None:
    """Measure every combination."""
    arms = list(itertools.product(("uniform", "pool", "proportional"), (False, True)))
    found = {arm: variance(*arm) for arm in arms}
    reference = found["uniform", False][0]
    rows = [
        {
            "allocator": allocator,
            "stratified": stratified,
            "variance": v,
            "share": v / reference,
            "bias_in_stderr": bias,
        }
        for (allocator, stratified), (v, bias) in found.items()
    ]
    click.echo(f"{'allocation':14}{'draws':>14}{'variance':>12}{'share':>9}{'bias / s.e.':>13}")
    for row in rows:
        draws = "stratified" if row["stratified"] else "independent"
        click.echo(
            f"{row['allocator']:14}{draws:>14}{row['variance']:>12.5f}{row['share']:>9.3f}{row['bias_in_stderr']:>13.2f}"
        )
    record = {
        "command": "benchmarks/variance.py",
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "rows": rows,
    }
    out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
