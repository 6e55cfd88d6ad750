"""Allocators in a closed loop: visits train a region, and the estimates decide the visits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from aria import registry
from aria.allocators import Uniform
from aria.cli.errors import failures_of
from aria.interfaces import Allocator, Estimate, Tracker
from aria.progress import bar
from aria.samplers import draws
from aria.threads import one_thread
from theory.assumptions import Array
from theory.errors import Z99
from theory.regimes import Allocated, Random, Regime
from theory.world import World


def measure_allocators(
    spec: str, specs: tuple[str, ...], name: str, regime: Regime, steps: int, replicas: int, seed: int
) -> list[dict[str, object]]:
    """Discrepancy that is left under each allocator, beside its oracle and a uniform allocation."""
    if not isinstance(regime.visits, Allocated):
        raise ValueError(f"allocators can be compared only in a regime whose visits an allocator decides, not {name!r}")
    tracker = registry.tracker(spec)
    parts: dict[str, Allocator] = {registry.spec(part): part for part in map(registry.allocator, specs)}
    visits = regime.visits
    runs = len(parts) * 2 + 1
    done = 0
    with bar("allocating", hidden=runs * steps < 3000) as progress, one_thread():

        def left(allocator: Allocator, oracle: bool) -> Array:
            nonlocal done
            chosen = dataclasses.replace(regime, visits=dataclasses.replace(visits, allocator=allocator))
            found = _left(tracker, chosen, oracle, steps, replicas, seed, lambda at: progress(done + at, runs * steps))
            done += steps
            return found

        uniform = left(Uniform(), False)
        rows: list[dict[str, object]] = []
        for shown, part in parts.items():
            with failures_of(part):
                own, oracle = left(part, False), left(part, True)
            lead = float((uniform - oracle).mean())
            rows.append(
                {
                    "allocator": shown,
                    "left": float(own.mean()),
                    "plus_minus": Z99 * float(own.std(ddof=1)) / replicas**0.5,
                    "oracle": float(oracle.mean()),
                    "uniform": float(uniform.mean()),
                    "times_won": float((uniform - own).mean()) / lead if lead > 1e-12 else None,
                }
            )
    return rows


def _left(
    tracker: Tracker,
    regime: Regime,
    oracle: bool,
    steps: int,
    replicas: int,
    seed: int,
    progress: Callable[[int], None],
) -> Array:
    """(R,) mean truth over regions after the last step, as a share of that at the start."""
    shape = (replicas, regime.regions or 1)
    world = World(regime, Random(draws.step_seed(seed, 0), shape))
    state, begin = tracker.init(shape), world.truth.mean(-1)
    with torch.inference_mode():
        for step in range(1, steps + 1):
            truth = world.truth.expand(shape)
            estimate = Estimate(truth, torch.zeros_like(truth)) if oracle else tracker.estimate(state)
            state = tracker.update(state, world.step(estimate))
            if step % 50 == 0:
                progress(step)
    left: Array = (world.truth.expand(shape).mean(-1) / begin).numpy()
    return left
