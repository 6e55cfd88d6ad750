r"""Runs the shipped trackers through a regime, R replicas by K regions at a time.

One tensor carries a block of replicas through all steps, small enough to stay in a core's cache; blocks are shared out
to threads. Block ``i`` draws its numbers from a stream seeded by (seed, i), so a result depends on the seed and the
block size only: neither on the number of threads nor on which of them was first. Another block size gives other
numbers of the same law. Memory beyond what is recorded does not grow with R or T.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from aria import checks
from aria.interfaces import Device, Estimate, RegionStats, State, Tracker
from aria.samplers import draws
from theory.regimes import Past, Random, Regime, Seen

BLOCK = 24_576
"""Tracker memories (replicas times regions) a block carries on a CPU: 192 KiB a tensor, and below the size from which
torch would split one operation between threads."""
BLOCK_MEMORY = 300_000
"""Numbers that the memory of a block's tracker may hold on a CPU: trackers with long memories get fewer rows."""
DEVICE_SCALE = 200
"""How much larger both are on an accelerator, where few large operations are best."""
TICK = 64
"""Steps between two looks at the progress."""

RECORDS = ("sample", "sums", "weighted", "peak", "curve", "certificate")
"""What can be recorded beside the moments of the final errors; see :class:`Errors`."""


class Moments(NamedTuple):
    """Averages over replicas, (K,) each, and their standard errors."""

    mean: Tensor
    square: Tensor
    mean_stderr: Tensor
    square_stderr: Tensor


@dataclass(frozen=True, eq=False)
class Errors:
    r"""The errors of R replicas: filtering :math:`e_t = m_t - \mu_t` and prediction :math:`p_t = m_{t-1} - \mu_t`.

    ``records`` holds what was asked for, (R, K) each unless said otherwise, with sums over the steps after ``burn``:

    ============= ====================================================================================================
    "sample"      ``filtering`` and ``prediction``, the errors of the last step
    "sums"        ``sum e``, ``sum e²``, ``sum p``, ``sum p²``
    "weighted"    ``sum q``, ``sum q e`` and ``sum q e²`` with the visit probability q_t and the error e_{t-1} before
                  it, and ``start``, the error at step ``burn``: all that T13 is about
    "peak"        ``peak``, the largest \|e_t\|
    "curve"       ``curve e``, ``curve e²``, ``curve p``, ``curve p²``, (T - burn, K) each: averages over replicas
    "certificate" ``start weight``, ``lag`` and ``noise`` of the last step
    ============= ====================================================================================================
    """

    replicas: int
    steps: int
    burn: int
    powers: Tensor
    """(2, 4, K) sums over replicas of the powers 1 to 4 of the final filtering and prediction errors."""
    records: dict[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        """A record by its name."""
        if name not in self.records:
            raise KeyError(f"{name!r} was not recorded, only {', '.join(sorted(self.records)) or 'the moments'}")
        return self.records[name]

    def _moments(self, row: int) -> Moments:
        m1, m2, _, m4 = (self.powers[row] / self.replicas).unbind()
        n = max(self.replicas - 1, 1)
        return Moments(m1, m2, ((m2 - m1 * m1).clamp(min=0) / n).sqrt(), ((m4 - m2 * m2).clamp(min=0) / n).sqrt())

    @property
    def filtering(self) -> Moments:
        """Moments of e_T."""
        return self._moments(0)

    @property
    def prediction(self) -> Moments:
        """Moments of p_T."""
        return self._moments(1)


Progress = Callable[[int, int], None]
"""Called with the number of updates done and to be done, from the thread that called :func:`simulate`."""


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
    progress: Progress | None = None,
) -> Errors:
    r"""The errors of a shipped tracker after ``steps`` steps in a regime.

    Args:
        tracker: any tracker that estimates the mean.
        regime: how the truth moves, what hides it and what is seen of it.
        steps: T, number of steps.
        replicas: R, number of independent runs.
        regions: K; by default one, or one per level of the regime.
        burn: steps left out of everything that is summed over steps.
        record: what to keep beside the moments of the final errors, out of :data:`RECORDS`.
        seed: the result is a function of it, the sizes and ``block``.
        block: replicas that one tensor carries; by default as many as fit a core's cache.
        workers: threads; by default one per core, one on an accelerator. Noise dear to draw gains most from several,
            random bits nothing, since Python hands out short operations one at a time.
        device: where to run.
        progress: called as it goes on.

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
    regime.start(regions)  # refuses a number of regions that does not fit
    rows = common(tracker) if regime.visits.shared else frozenset[str]()
    job = _Job(tracker, regime, steps, regions, burn, frozenset(record), seed, device, rows)
    sizes = [min(block, replicas - first) for first in range(0, replicas, block)]
    return _collect(job, sizes, workers, progress)


def _default_block(tracker: Tracker, regions: int, device: torch.device) -> int:
    memory = sum(tensor.numel() for tensor in tracker.init((1, 1)).values())
    limit = min(BLOCK, BLOCK_MEMORY // memory) * (1 if device.type == "cpu" else DEVICE_SCALE)
    return max(1, limit // regions)


@dataclass(frozen=True, eq=False)
class _Job:
    """What all blocks have in common."""

    tracker: Tracker
    regime: Regime
    steps: int
    regions: int
    burn: int
    record: frozenset[str]
    seed: int
    device: torch.device
    rows: frozenset[str]
    """Names of the memory that one row of serves all replicas."""

    @property
    def running(self) -> bool:
        """Whether errors are looked at on every step after ``burn``."""
        return not self.record.isdisjoint({"sums", "weighted", "peak", "curve"})


# ------------------------------------------------------------------------------------------------------- one block


def _block(job: _Job, index: int, rows: int, tick: Callable[[int], None]) -> _Tally:
    """Block ``index`` of ``rows`` replicas through all steps."""
    shape = (rows, job.regions)
    random = Random(draws.step_seed(job.seed, index), shape, job.device)
    visits, drift, noise = job.regime.visits, job.regime.drift, job.regime.noise
    memory = [part.init(shape, job.device) for part in (visits, drift, noise)]
    state = _init(job.tracker, shape, job.rows, job.device)
    observe = _Observer(job.regime, None if job.rows else shape)
    tally = _Tally(job, shape)
    truth = job.regime.start(job.regions, job.device)  # (1, K)
    adaptive, first = job.regime.adaptive, job.burn + 1 if job.running else job.steps
    estimate = _estimate(job.tracker, state, shape) if adaptive or first == 1 else None
    for step in range(1, job.steps + 1):
        before, last = truth, estimate
        past = Past(step, truth, last if adaptive else None)
        seen, memory[0] = visits.step(memory[0], past, random)
        move, memory[1] = drift.step(memory[1], past._replace(visit=seen.visit), random)
        truth = truth + move
        hidden, memory[2] = noise.step(memory[2], Past(step, truth, past.estimate, seen.visit), random)
        state = job.tracker.update(state, observe(truth, hidden, seen))
        if adaptive or step + 1 >= first:
            estimate = _estimate(job.tracker, state, shape)
        if step >= first and last is not None and estimate is not None:
            tally.add(step, last.value, before, truth, estimate.value, seen.visit)
        if step % TICK == 0 or step == job.steps:
            tick(((step - 1) % TICK + 1) * rows * job.regions)
    tally.close(state)
    return tally


def _estimate(tracker: Tracker, state: State, shape: tuple[int, int]) -> Estimate:
    return tracker.estimate({name: tensor.expand(shape[0], *tensor.shape[1:]) for name, tensor in state.items()})


class _Observer:
    """Turns a truth, its noise and the visits into the sums a tracker is shown."""

    def __init__(self, regime: Regime, shape: tuple[int, int] | None) -> None:
        self.shape = shape  # None leaves what is common to all replicas as one row
        self.shared, self.batched = regime.visits.shared, regime.visits.batched
        self.variance = regime.sigma**2
        self._raw: Tensor | None = None
        self._count: Tensor = torch.empty(0)
        self._single = False

    def __call__(self, truth: Tensor, noise: Tensor, seen: Seen) -> RegionStats:
        n = self._counted(seen.n)
        visit = seen.visit if self.shape is None else seen.visit.expand(self.shape)
        if self._single:
            y = torch.add(truth, noise)
            return RegionStats(n, y, y * y, visit)
        if not self.batched:  # n is 0 or 1
            total = torch.add(truth, noise).mul_(n)
            return RegionStats(n, total, total * total, visit)
        mean = torch.addcmul(truth, noise, n.clamp(min=1).rsqrt_())
        total = mean * n
        spread = (n - 1).clamp_(min=0).mul_(self.variance)  # expected squares within the batch
        return RegionStats(n, total, torch.addcmul(spread, total, mean), visit)

    def _counted(self, count: Tensor) -> Tensor:
        """Counts in the shape the tracker wants; those that stay the same are looked at once."""
        if not self.shared:
            return count
        if count is not self._raw:
            self._raw, self._single = count, bool((count == 1).all())
            self._count = count if self.shape is None else count.expand(self.shape).contiguous()
        return self._count


def common(tracker: Tracker) -> frozenset[str]:
    """Names of the memory that is the same in all replicas visited alike, if the tracker can work with one row of it.

    Gains, weights and the certificate do not depend on signals; one row of them serves all R replicas. Which these are
    is found by running a few steps both ways; a tracker that needs every tensor in its full shape has none.

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
            warnings.simplefilter("error")  # of tensors resized behind the scenes
            for n, total, square, visit in steps:
                state = tracker.update(state, RegionStats(n[:1], total, square, visit[:1]))
        pairs = zip(_estimate(tracker, full, (3, 2)), _estimate(tracker, state, (3, 2)), strict=True)
        works = all(torch.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True) for a, b in pairs)
    except (RuntimeError, ValueError, IndexError, UserWarning):
        works = False
    return frozenset(names) if works else frozenset()


def _init(tracker: Tracker, shape: tuple[int, int], rows: frozenset[str], device: Device = None) -> State:
    """A fresh memory with one row of what is named in ``rows``."""
    state = tracker.init(shape, device)
    return {name: tensor[:1].clone() if name in rows else tensor for name, tensor in state.items()}


class _Tally:
    """What one block records."""

    def __init__(self, job: _Job, shape: tuple[int, int]) -> None:
        self.job, self.shape = job, shape
        self.powers = torch.zeros((2, 4, shape[1]), dtype=torch.float64, device=job.device)
        self.records: dict[str, Tensor] = {}
        names = {
            "sums": ("sum e", "sum e²", "sum p", "sum p²"),
            "weighted": ("sum q", "sum q e", "sum q e²"),
            "peak": ("peak",),
        }
        for kind, fields in names.items():
            if kind in job.record:
                self.records |= {name: self._zeros(shape) for name in fields}
        if "curve" in job.record:
            span = (job.steps - job.burn, shape[1])
            self.records |= {f"curve {name}": self._zeros(span) for name in ("e", "e²", "p", "p²")}

    def _zeros(self, shape: tuple[int, int]) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.job.device)

    def add(self, step: int, last: Tensor, before: Tensor, truth: Tensor, value: Tensor, visit: Tensor) -> None:
        """One step: the estimates m_{t-1} and m_t, the truths μ_{t-1} and μ_t, and q_t."""
        records, kinds = self.records, self.job.record
        e, p = value - truth, last - truth  # (R, K)
        if "sums" in kinds:
            records["sum e"].add_(e)
            records["sum e²"].addcmul_(e, e)
            records["sum p"].add_(p)
            records["sum p²"].addcmul_(p, p)
        if "weighted" in kinds:
            old = last - before  # e_{t-1}
            if step == self.job.burn + 1:
                records["start"] = old
            weighted = old * visit
            records["sum q"].add_(visit)
            records["sum q e"].add_(weighted)
            records["sum q e²"].addcmul_(weighted, old)
        if "peak" in kinds:
            torch.maximum(records["peak"], e.abs(), out=records["peak"])
        if "curve" in kinds:
            at = step - self.job.burn - 1
            for name, error in (("e", e), ("p", p)):
                records[f"curve {name}"][at] = error.sum(0)
                records[f"curve {name}²"][at] = (error * error).sum(0)
        if step == self.job.steps:
            self.powers = torch.stack([torch.stack([(x**k).sum(0) for k in (1, 2, 3, 4)]) for x in (e, p)])
            if "sample" in kinds:
                records |= {"filtering": e, "prediction": p}

    def close(self, state: State) -> None:
        """What is read off the memory at the end."""
        if "certificate" not in self.job.record:
            return
        certificate = self.job.tracker.certificate(state)
        if certificate is None:
            raise ValueError(f"tracker has no certificate to record: {self.job.tracker!r}")
        for name, part in zip(("start weight", "lag", "noise"), certificate, strict=True):
            self.records[name] = part.expand(self.shape)


# ------------------------------------------------------------------------------------------------------- all blocks


class _Counter:
    """Updates done so far, added to by all threads; a thread learns here that it should stop."""

    def __init__(self) -> None:
        self.done = 0
        self.stopped = False
        self._lock = threading.Lock()

    def tick(self, updates: int) -> None:
        if self.stopped:
            raise _Stopped
        with self._lock:
            self.done += updates


class _Stopped(Exception):
    pass


def _collect(job: _Job, sizes: list[int], workers: int, progress: Progress | None) -> Errors:
    """All blocks, put together in their order."""
    replicas = sum(sizes)
    powers = torch.zeros((2, 4, job.regions), dtype=torch.float64)
    records: dict[str, Tensor] = {}
    total = replicas * job.regions * job.steps
    first = 0
    for tally in _in_threads(job, sizes, workers, lambda done: progress(done, total) if progress else None):
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


def _in_threads(job: _Job, sizes: list[int], workers: int, progress: Callable[[int], None]) -> Iterator[_Tally]:
    """The blocks' tallies in order; at most two per thread are under way or waiting to be taken."""
    counter = _Counter()

    def run(index: int) -> _Tally:
        with torch.inference_mode():
            return _block(job, index, sizes[index], counter.tick)

    with one_thread(), ThreadPoolExecutor(min(workers, len(sizes))) as pool:
        try:
            waiting: list[Future[_Tally]] = []
            todo = iter(range(len(sizes)))
            while True:
                for index in _up_to(2 * workers - len(waiting), todo):
                    waiting.append(pool.submit(run, index))
                if not waiting:
                    return
                while not wait(waiting[:1], timeout=0.1, return_when=FIRST_COMPLETED).done:
                    progress(counter.done)
                tally = waiting.pop(0).result()
                progress(counter.done)
                yield tally
        finally:
            counter.stopped = True


class _Threads:
    """How many runs need torch not to split operations, and how many threads it had before the first of them."""

    lock = threading.Lock()
    runs = 0
    before = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch from splitting an operation between threads, here and in threads begun within.

    Blocks are small and already shared out to threads: handing parts of an operation round costs more than it saves,
    and a hundred times as much where another program has the second core.
    """
    with _Threads.lock:
        if _Threads.runs == 0:
            _Threads.before = torch.get_num_threads()
            torch.set_num_threads(1)
        _Threads.runs += 1
    try:
        yield
    finally:
        with _Threads.lock:
            _Threads.runs -= 1
            if _Threads.runs == 0:
                torch.set_num_threads(_Threads.before)


def _up_to(count: int, items: Iterable[int]) -> Iterator[int]:
    """The next ``count`` items, fewer where they run out."""
    for _, item in zip(range(count), items, strict=False):
        yield item


@contextmanager
def bar(label: str = "", *, hidden: bool = False) -> Iterator[Progress]:
    """A progress bar on standard error, to hand to :func:`simulate`.

    >>> from theory.regimes import NAMED
    >>> from aria.trackers import EMA
    >>> with bar("jumps", hidden=True) as progress:
    ...     simulate(EMA(), NAMED["jumps"], steps=10, replicas=5, progress=progress).replicas
    5
    """
    import sys

    import click

    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=hidden, width=0) as shown:

        def progress(done: int, total: int) -> None:
            shown.length = total
            shown.update(done - shown.pos)

        yield progress
