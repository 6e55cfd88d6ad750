"""Tracker updates per second of the simulator, compared with a plain Python loop and NumPy loops over steps.

    python benchmarks/simulator.py [--quick] [--output FILE]

Every method runs an EMA on a mean that moves by 0.05 per step, under noise of variance 1. The hand-written loops update
only the estimate, or the whole state of the shipped tracker (mean square, certificate, bias correction); the simulator
runs the shipped class. Contestants take turns and the best of several rounds counts. Other work on the machine lowers
the rate per second of wall-clock time, but hardly that per second of processor time.

A rate is replicas times steps over seconds. Exact samples take no steps: their rate is the one that a loop would need,
with 200 steps if every step is a visit, and 37/(bq) = 1850 if visits are rare and the start must be forgotten.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aria.trackers import EMA, Bank, Window
from theory import exact_samples
from theory.regimes import Bernoulli, Gaussian, Linear, Rademacher, Regime, SignAdversary
from theory.simulate import BLOCK, simulate

RESULTS = Path(__file__).parent / "results" / "simulator.json"
RATE, DRIFT, STEPS, VISIT = 0.1, 0.05, 200, 0.2
EXPECTED = (DRIFT * (1 - RATE) / RATE) ** 2 + RATE / (2 - RATE)


def plain_loop(replicas: int) -> float:
    """Mean squared error at the last step, one number at a time."""
    total = 0.0
    for _ in range(replicas):
        value = truth = 0.0
        for _ in range(STEPS):
            truth += DRIFT
            value += RATE * (truth + random.gauss(0.0, 1.0) - value)
        total += (value - truth) ** 2
    return total / replicas


def numpy_loop(replicas: int, seed: int = 0) -> float:
    """The same over arrays of replicas, in place, updating only the estimate."""
    rng = np.random.default_rng(seed)
    total = 0.0
    for first in range(0, replicas, BLOCK):
        rows = min(BLOCK, replicas - first)
        value, y, truth = np.zeros(rows), np.empty(rows), 0.0
        for _ in range(STEPS):
            truth += DRIFT
            rng.standard_normal(out=y)
            y += truth
            y -= value
            y *= RATE
            value += y
        total += float(((value - truth) ** 2).sum())
    return total / replicas


def numpy_full_loop(replicas: int, seed: int = 0) -> float:
    """The same with the mean square, certificate and bias correction of the shipped tracker."""
    rng = np.random.default_rng(seed)
    total = 0.0
    for first in range(0, replicas, BLOCK):
        rows = min(BLOCK, replicas - first)
        value, square, lag, noise, weight = np.zeros((5, rows))
        truth = 0.0
        for _ in range(STEPS):
            truth += DRIFT
            y = truth + rng.standard_normal(rows)
            weight = RATE + (1 - RATE) * weight
            gain = RATE / weight
            keep = 1 - gain
            value = value + gain * (y - value)
            square = square + gain * (y * y - square)
            lag = keep * (lag + 1)
            noise = keep * keep * noise + gain * gain
        total += float(((value - truth) ** 2).sum())
    return total / replicas


def shipped(tracker: object, regime: Regime, workers: int | None = None) -> Callable[[int], float]:
    """A run of the simulator."""

    def run(replicas: int) -> float:
        errors = simulate(tracker, regime, steps=STEPS, replicas=replicas, record=(), workers=workers)  # type: ignore[arg-type]
        return float(errors.filtering.square)

    return run


class Contestant(NamedTuple):
    """A method, its number of replicas, and whether its mean square is checked against the formula."""

    run: Callable[[int], float]
    replicas: int
    checked: bool = True
    steps: int = STEPS


def contestants(scale: int) -> dict[str, Contestant]:
    """All contestants, with ``scale`` blocks of replicas each, fewer for the slow ones."""
    line = Regime(Linear(DRIFT), Gaussian())
    bits = Regime(Linear(DRIFT), Rademacher())
    ema, wide = EMA(rate=RATE), scale * BLOCK
    return {
        "plain Python loop, estimate only": Contestant(plain_loop, 2000),
        "NumPy loop over steps, estimate only": Contestant(numpy_loop, wide),
        "NumPy loop over steps, all a tracker carries": Contestant(numpy_full_loop, wide),
        "simulate: EMA, normal noise": Contestant(shipped(ema, line), wide),
        "simulate: EMA, normal noise, one thread": Contestant(shipped(ema, line, 1), wide),
        "simulate: EMA, random bits": Contestant(shipped(ema, bits), 2 * wide),
        "simulate: EMA, random bits, one thread": Contestant(shipped(ema, bits, 1), 2 * wide),
        "simulate: EMA, Bernoulli(0.2) visits": Contestant(
            shipped(ema, Regime(Linear(DRIFT), visits=Bernoulli(VISIT))), wide, False
        ),
        "simulate: EMA, sign adversary": Contestant(shipped(ema, Regime(SignAdversary(DRIFT))), wide, False),
        "simulate: Window(16), normal noise": Contestant(shipped(Window(size=16), line), wide // 8, False),
        "simulate: Bank(9), normal noise": Contestant(shipped(Bank(), line), wide // 8, False),
        "exact samples, every step": Contestant(
            lambda n: float((exact_samples.synchronous(ema, line, steps=STEPS, replicas=n) ** 2).mean()), wide * 16
        ),
        "exact samples, Bernoulli(0.2) visits": Contestant(
            lambda n: float((exact_samples.asynchronous(RATE, DRIFT, 1.0, VISIT, replicas=n) ** 2).mean()),
            wide // 4,
            checked=False,
            steps=round(37 / (RATE * VISIT)),
        ),
    }


def machine() -> dict[str, object]:
    """The machine and the versions that the numbers depend on."""
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in ("torch", "numpy")},
    }


def main() -> None:
    """Run all, print a table, write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one small round")
    parser.add_argument("--output", type=Path, help=f"JSON to write; by default results/{RESULTS.name} for a full run")
    arguments = parser.parse_args()
    rounds, scale = (1, 2) if arguments.quick else (7, 8)
    runs = contestants(scale)
    wall = dict.fromkeys(runs, float("inf"))
    cpu = dict.fromkeys(runs, float("inf"))
    square = dict.fromkeys(runs, 0.0)
    for _ in range(rounds):
        for name, (run, replicas, checked, steps) in runs.items():
            clock, processor = time.perf_counter(), time.process_time()
            square[name] = run(replicas)
            wall[name] = min(wall[name], (time.perf_counter() - clock) / (replicas * steps))
            cpu[name] = min(cpu[name], (time.process_time() - processor) / (replicas * steps))
            if checked and abs(square[name] / EXPECTED - 1) > 7 / replicas**0.5:
                raise SystemExit(f"{name}: mean square {square[name]}, expected {EXPECTED}")
    plain, array = (wall[name] for name in list(runs)[:2])
    rows = [
        {
            "method": name,
            "updates_per_second": 1 / wall[name],
            "updates_per_cpu_second": 1 / cpu[name],
            "times_plain_loop": plain / wall[name],
            "times_numpy_loop": array / wall[name],
            "mean_square": square[name],
        }
        for name in runs
    ]
    print(f"{'method':<46}{'updates/s':>11}{'per CPU s':>11}{'x Python':>10}{'x NumPy':>9}{'mean square':>13}")
    for row in rows:
        print("{:<46}{:>11.2e}{:>11.2e}{:>10.1f}{:>9.2f}{:>13.4f}".format(*row.values()))
    output = arguments.output or (None if arguments.quick else RESULTS)
    if output:
        setting = {"rate": RATE, "drift": DRIFT, "steps": STEPS, "rounds": rounds, "block": BLOCK}
        output.write_text(json.dumps({"machine": machine(), "setting": setting, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
