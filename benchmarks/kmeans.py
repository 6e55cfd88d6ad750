"""Time and inertia of clustering prompt embeddings: scikit-learn with ARIA's settings, compared with faiss.

    python benchmarks/kmeans.py [--quick] [--output FILE]

The embeddings resemble those of text encoders: a mixture of a thousand clusters of unequal size in a space of lower
dimension, plus coloured noise. Inertia is the mean squared distance of every point to its centroid. faiss is skipped if
it is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans

from aria.partitioners.embeddings import distances
from aria.partitioners.kmeans import KMeans, cluster

RESULTS = Path(__file__).parent / "results" / "kmeans.json"


def embeddings(points: int, dimension: int, seed: int = 0) -> np.ndarray:
    """(N, D) float32 points of the mixture."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((48, dimension), dtype=np.float32) / 48**0.5
    middles = rng.standard_normal((1000, 48), dtype=np.float32) @ mixing
    share = np.arange(1, 1001) ** -0.7
    colour = np.arange(1, dimension + 1, dtype=np.float32) ** -0.5
    colour *= 0.7 / np.sqrt((colour**2).mean())
    x = middles[rng.choice(1000, points, p=share / share.sum())]
    for part in np.array_split(x, max(points // 20_000, 1)):
        part += colour * rng.standard_normal(part.shape, dtype=np.float32)
    return x


def inertia(x: np.ndarray, centroids: torch.Tensor) -> float:
    """Mean squared distance of each point to the nearest centroid."""
    total, middle = 0.0, centroids.median(0).values
    for part in torch.from_numpy(x).split(20_000):
        squared = ((part - middle) ** 2).sum(1) + distances(part, centroids).min(1).values
        total += float(squared.double().sum())
    return total / len(x)


def contestants(x: np.ndarray, regions: int) -> dict[str, Callable[[], torch.Tensor]]:
    """By name, functions that return (K, D) centroids."""

    def default() -> torch.Tensor:
        return torch.from_numpy(MiniBatchKMeans(regions, random_state=0, n_init=1).fit(x).cluster_centers_)

    field = {
        "ARIA (mini-batches of 4096)": lambda: cluster(torch.from_numpy(x), None, regions, KMeans().batch, 0),
        "ARIA, batch=1024": lambda: cluster(torch.from_numpy(x), None, regions, 1024, 0),
        "ARIA, batch=16384": lambda: cluster(torch.from_numpy(x), None, regions, 16384, 0),
        "scikit-learn MiniBatchKMeans, its defaults": default,
    }
    if find_spec("faiss") is None:
        return field
    import faiss

    def faiss_kmeans(**options: int) -> Callable[[], torch.Tensor]:
        def run() -> torch.Tensor:
            model = faiss.Kmeans(x.shape[1], regions, seed=1, **options)
            model.train(x)
            return torch.from_numpy(model.centroids)

        return run

    return {
        **field,
        "faiss, its defaults (256 points a centroid)": faiss_kmeans(),
        "faiss, all points": faiss_kmeans(max_points_per_centroid=len(x)),
    }


def machine() -> dict[str, object]:
    """The machine and the versions that the numbers depend on."""
    modules = {"torch": "torch", "numpy": "numpy", "scikit-learn": "sklearn", "faiss-cpu": "faiss"}
    libraries = [name for name, module in modules.items() if find_spec(module)]
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in libraries},
    }


def main() -> None:
    """Run all contestants, print a table and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="Cluster 20k x 64 into 64 instead of 200k x 768 into 256.")
    result = f"JSON file for the result; by default results/{RESULTS.name} for a full run."
    parser.add_argument("--output", type=Path, help=result)
    arguments = parser.parse_args()
    points, dimension, regions = (20_000, 64, 64) if arguments.quick else (200_000, 768, 256)
    x = embeddings(points, dimension)
    rows = []
    print(f"{points} x {dimension} into {regions}\n\n{'method':<46}{'seconds':>9}{'CPU s':>9}{'inertia':>11}")
    for name, run in contestants(x, regions).items():
        wall, cpu = time.perf_counter(), time.process_time()
        centroids = run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        rows.append({"method": name, "seconds": wall, "cpu_seconds": cpu, "inertia": inertia(x, centroids)})
        print(f"{name:<46}{wall:>9.2f}{cpu:>9.2f}{rows[-1]['inertia']:>11.3f}", flush=True)
    output = arguments.output or (None if arguments.quick else RESULTS)
    if output:
        size = {"points": points, "dimension": dimension, "regions": regions}
        output.write_text(json.dumps({"machine": machine(), "size": size, "results": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
