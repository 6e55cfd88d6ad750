"""What the hashes of a checkpoint cost: writing tensors and flushing them to disk, with hashes and without.

    python -m benchmarks.checkpoint --megabytes 512 --folder . --output benchmarks/results/checkpoint.json

Both are done in turn, in a random order, and their times compared in pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from aria import files, integrity
from aria.bench.result import machine

FILES = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Time pairs of writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoint", description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--folder", type=Path, default=Path(), help="a folder on the disk to be measured")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    count = options.megabytes * 1_000_000 // 4 // FILES
    tensors = [{"weight": torch.randn(count)} for _ in range(FILES)]
    target, chance = options.folder / ".checkpoint-benchmark", random.Random(0)

    def write(hashed: bool) -> float:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        os.sync()
        start = time.perf_counter()
        for place, one in enumerate(tensors):
            files.write_tensors(target / f"{place}.safetensors", one)
        (integrity.hashes_flushed if hashed else files.flush)(target)
        return time.perf_counter() - start

    pairs = []
    for _ in range(options.pairs + 1):
        order = [True, False] if chance.random() < 0.5 else [False, True]
        took = {hashed: write(hashed) for hashed in order}
        pairs.append((took[True], took[False]))
    shutil.rmtree(target)
    ratios = sorted(hashed / plain for hashed, plain in pairs[1:])  # the first also warms up
    result = {
        "command": f"python -m benchmarks.checkpoint --megabytes {options.megabytes} --pairs {options.pairs}",
        "machine": machine(),
        "seconds": {"hashed": median(a for a, _ in pairs[1:]), "plain": median(b for _, b in pairs[1:])},
        "ratio": {"median": median(ratios), "lowest": ratios[0], "highest": ratios[-1]},
    }
    if options.output is not None:
        files.write_text(options.output, json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: result[name] for name in ("seconds", "ratio")}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
