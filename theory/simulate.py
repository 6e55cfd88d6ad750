r"""Simulates the shipped trackers in a regime, R replicas by K regions at a time.

One tensor carries a block of replicas through all steps; a block is small enough for the cache of one core, and blocks
are distributed over threads. Block ``i`` has a random number generator of its own, seeded by (seed, i), so a result
depends only on the seed and the block size, not on the number of threads or their order. Another block size gives other
numbers from the same distribution. Apart from the records, memory does not grow with R or T.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aria import checks
from aria.interfaces import Device, Estimate, RegionStats, State, Tracker
from aria.progress import Report
from aria.samplers import draws
from theory.errors import RECORDS, Errors, Tally
from theory.regimes import Random, Regime
from theory.threads import Tick, in_threads
from theory.world import World

__all__ = ["Errors", "simulate"]

BLOCK = 24_576
"""Replicas times regions per block on a CPU: 192 KiB per tensor, below the size from which torch would split one
operation between threads."""
BLOCK_MEMORY = 300_000
"""Most numbers in a block's tracker state on a CPU: trackers with a large state get fewer rows."""
DEVICE_SCALE = 200
"""Factor by which both are larger on an accelerator, where few large operations are fastest."""
TICK = 64
"""Steps between two progress updates."""


def simulate(
    tracker: Tracker,
    regime: Regime,
    *,
    steps: int,
    replicas: int,
    regions: int | None = None,
    burn: int = 0,
    record: Sequence[str] = ("sample",),
    seed: int = 0,
    block: int | None = None,
    workers: int | None = None,
    device: Device = None,
    progress: Report | None = None,
) -> Errors:
    r"""The errors of a shipped tracker after ``steps`` steps in a regime.

    Args:
        tracker: any tracker that estimates the mean.
        regime: how the truth moves, its noise and its visits.
        steps: T, number of steps.
        replicas: R, number of independent runs.
        regions: K; by default one, or one per level of the regime.
        burn: steps excluded from everything that is summed over steps.
        record: what to record in addition to the moments of the final errors, out of :data:`~theory.errors.RECORDS`.
        seed: random seed; the result is a function of it, the sizes and ``block``.
        block: replicas per tensor; by default as many as fit the cache of one core.
        workers: threads; by default one per core, one on an accelerator. Expensive noise gains most from several,
            random bits nothing, since Python starts short operations one at a time.
        device: where to run.
        progress: called during the simulation.

    >>> from aria.trackers import EMA
    >>> from theory.regimes import Linear, Rademacher
    >>> errors = simulate(EMA(rate=0.1), Regime(Linear(0.1), Rademacher()), steps=200, replicas=50_000)
    >>> round(float(errors.filtering.square), 2)  # (D(1-b)/b)² + b/(2-b) = 0.8626
    0.86
    """
    device = torch.device(device or "cpu")
    regions = regions if regions is not None else regime.regions or 1
    for name, value, least in (("steps", steps, 1), ("replicas", replicas, 1), ("regions", regions, 1)):
        checks.whole(name, value, least)
    checks.whole("burn", burn, least=0)
    if burn >= steps:
        raise ValueError(f"burn must be below steps={steps}, got {burn}")
    for name in record:
        checks.one_of("record", name, RECORDS)
    if tracker.statistic not in ("mean", "constant"):
        raise ValueError(f"tracker must estimate the mean, got one of the {tracker.statistic}: {tracker!r}")
    block = block if block is not None else _default_block(tracker, regions, device)
    checks.whole("block", block, least=1)
    workers = workers if workers is not None else (os.cpu_count() or 1 if device.type == "cpu" else 1)
    checks.whole("workers", workers, least=1)
    regime.start(regions)  # raises if the number of regions does not fit
    rows = common(tracker) if regime.visits.shared else frozenset[str]()
    job = _Job(tracker, regime, steps, regions, burn, frozenset(record), seed, device, rows)
    sizes = [min(block, replicas - first) for first in range(0, replicas, block)]
    return _collect(job, sizes, workers, progress)


def _default_block(tracker: Tracker, regions: int, device: torch.device) -> int:
    memory = sum(tensor.numel() for tensor in tracker.init((1, 1)).values())
    limit = min(BLOCK, BLOCK_MEMORY // max(memory, 1)) * (1 if device.type == "cpu" else DEVICE_SCALE)
    return max(1, limit // regions)


@dataclass(frozen=True, eq=False)
class _Job:
    """The arguments that all blocks share."""

    tracker: Tracker
    regime: Regime
    steps: int
    regions: int
    burn: int
    record: frozenset[str]
    seed: int
    device: torch.device
    rows: frozenset[str]
    """Names of the state tensors of which one row serves all replicas."""

    @property
    def running(self) -> bool:
        """Whether errors are needed at every step after ``burn``."""
        return not self.record.isdisjoint({"sums", "weighted", "peak", "curve"})


def _block(job: _Job, rows: int, index: int, tick: Tick) -> Tally:
    """Simulate block ``index`` of ``rows`` replicas through all steps."""
    shape = (rows, job.regions)
    world = World(job.regime, Random(draws.step_seed(job.seed, index), shape, job.device), one_row=bool(job.rows))
    state = _init(job.tracker, shape, job.rows, job.device)
    tally = Tally(job.record, shape, job.burn, job.steps, job.device)
    adaptive, first = job.regime.adaptive, job.burn + 1 if job.running else job.steps
    estimate = _estimate(job.tracker, state, shape) if adaptive or first == 1 else None
    for step in range(1, job.steps + 1):
        before, last = world.truth, estimate
        stats = world.step(last)
        state = job.tracker.update(state, stats)
        if adaptive or step + 1 >= first:
            estimate = _estimate(job.tracker, state, shape)
        if step >= first and last is not None and estimate is not None:
            tally.add(step, last.value, before, world.truth, estimate.value, stats.visit)
        if step % TICK == 0 or step == job.steps:
            tick(((step - 1) % TICK + 1) * rows * job.regions)
    tally.close(job.tracker, state)
    return tally


def _estimate(tracker: Tracker, state: State, shape: tuple[int, int]) -> Estimate:
    return tracker.estimate({name: tensor.expand(shape[0], *tensor.shape[1:]) for name, tensor in state.items()})


def common(tracker: Tracker) -> frozenset[str]:
    """Names of the state tensors that are equal in all replicas with equal visits, if the tracker works with one row.

    Gains, weights and the certificate do not depend on the signal; one row of them serves all R replicas. They are
    found by running a few steps both ways; for a tracker that needs the full shape of every tensor the set is empty.

    >>> from aria.trackers import EMA, Window
    >>> sorted(common(EMA()))
    ['lag', 'noise', 'weight']
    >>> sorted(common(Window()))
    []
    """
    random = Random(0, (3, 2))
    steps = []
    for count in (1.0, 2.0, 0.0, 1.0, 3.0):
        n, total = torch.full((3, 2), count, dtype=torch.float64), random.normal() * count
        steps.append(RegionStats(n, total, total * total + n, torch.ones_like(n)))
    full = tracker.init((3, 2))
    names = set(full)
    for stats in steps:
        full = tracker.update(full, stats)
        names = {name for name in names if torch.equal(full[name], full[name][:1].expand_as(full[name]))}
    state = _init(tracker, (3, 2), frozenset(names))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # for implicitly resized tensors
            for n, total, square, visit in steps:
                state = tracker.update(state, RegionStats(n[:1], total, square, visit[:1]))
        pairs = zip(_estimate(tracker, full, (3, 2)), _estimate(tracker, state, (3, 2)), strict=True)
        works = all(torch.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True) for a, b in pairs)
    except (RuntimeError, ValueError, IndexError, UserWarning):
        works = False
    return frozenset(names) if works else frozenset()


def _init(tracker: Tracker, shape: tuple[int, int], rows: frozenset[str], device: Device = None) -> State:
    """A new state, with one row of the tensors named in ``rows``."""
    state = tracker.init(shape, device)
    return {name: tensor[:1].clone() if name in rows else tensor for name, tensor in state.items()}


def _collect(job: _Job, sizes: list[int], workers: int, progress: Report | None) -> Errors:
    """Run all blocks and combine them in order."""
    replicas = sum(sizes)
    powers = torch.zeros((2, 4, job.regions), dtype=torch.float64)
    records: dict[str, Tensor] = {}
    total = replicas * job.regions * job.steps
    first = 0

    def run(index: int, tick: Tick) -> Tally:
        return _block(job, sizes[index], index, tick)

    for tally in in_threads(run, len(sizes), workers, lambda done: progress(done, total) if progress else None):
        powers += tally.powers.cpu()
        for name, part in tally.records.items():
            if name.startswith("curve"):
                records.setdefault(name, torch.zeros(part.shape, dtype=torch.float64)).add_(part.cpu() / replicas)
                continue
            if name not in records:
                records[name] = torch.empty((replicas, job.regions), dtype=torch.float64)
            records[name][first : first + tally.shape[0]] = part.cpu()
        first += tally.shape[0]
    return Errors(replicas, job.steps, job.burn, powers, records)
