r"""Noise and drift of every region, read from a log in one pass.

**Noise.** Where single observations of one visit are in the log, their pooled variance. Else, from three visits in a
row, how far the middle one lies from the line through its neighbours,

.. math:: r = \bar y_1 - \lambda\bar y_0 - (1-\lambda)\bar y_2, \quad \lambda = \frac{t_2-t_1}{t_2-t_0}, \qquad
          E r^2 = s^2 v, \quad v = \frac1{n_1} + \frac{\lambda^2}{n_0} + \frac{(1-\lambda)^2}{n_2}

on a line, whatever its slope: ``rice_variance(order=2)`` for gaps and batches of any size.

**Drift.** Means of two neighbouring blocks of :math:`2^j` visits lie a time g apart and differ by D·g and noise of
variance :math:`s^2v`, so over all pairs :math:`D_j^2 = \sum g^2(\Delta^2 - s^2v)/\sum g^4`: the mean square drift at
that time scale. The smallest blocks that tell it from 0 are taken. It is what a log can show, never a promise: no data
can bound a drift that may begin tomorrow.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from theory.log import VisitTable

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

LEVELS = 26
"""Blocks of up to 2**25 visits."""
CLEAR = 10.0
"""Standard errors at which a drift is taken as it is read at that block size."""
VISIBLE = 5.0
"""Standard errors below which no drift is claimed."""
ENOUGH = 30
"""Degrees of freedom from which the scatter within visits is preferred."""
FALSE_ALARM = 1e-6
"""Probability that one assumption of one region is called broken although it holds and the noise is Gaussian."""


class Reading(NamedTuple):
    """What a log says of one region."""

    region: int
    visits: int
    observations: float
    visit_rate: float
    """Share of the logged steps that visit the region."""
    batch: float
    """Observations a visit, as their harmonic mean: what the noise of a mean depends on."""
    mean: float
    sigma: float
    sigma_from: str
    """"within" visits or between "triples" of them."""
    drift: float
    """Root mean square drift a step; 0 where none can be told from 0."""
    drift_limit: float
    """What a steady drift would have had to exceed to be seen."""
    block: int
    """Visits in a block at which the drift was read; 0 without drift."""
    course: str
    """"still", "steady" or "wandering" like a random walk, by how the drift depends on the block size."""
    doubts: tuple[str, ...]
    """Assumptions that the data speak against, one line each."""


class Readings:
    """Adds up visits, piece by piece; memory depends on the number of regions only.

    >>> rng = np.random.default_rng(0)
    >>> t = np.arange(4000)
    >>> y = 0.05 * t + rng.normal(size=4000)
    >>> readings = Readings()
    >>> readings.add(VisitTable(0 * t, t, np.ones(4000), y, np.zeros(4000), np.zeros(4000)))
    >>> (reading,) = readings.read()
    >>> round(reading.sigma, 1), round(reading.drift, 2), reading.course
    (1.0, 0.05, 'steady')
    """

    def __init__(self) -> None:
        self._size = 0
        self._sums: dict[str, Array] = {}
        self._levels: dict[str, Array] = {}
        self._waiting: dict[str, Array] = {}
        self._last: Array = np.zeros((0, 2, 3))
        self._first_step: float | None = None
        self._last_step = 0.0

    # ------------------------------------------------------------------------------------------------------- adding

    def add(self, visits: VisitTable) -> None:
        """The visits of a further piece, in order of region and step, later than all before."""
        if not visits.region.size:
            return
        self._grow(int(visits.region[-1]) + 1)
        self._first_step = float(visits.step.min()) if self._first_step is None else self._first_step
        self._last_step = float(visits.step.max())
        region, t = visits.region, visits.step.astype(np.float64)
        for name, term in (
            ("visits", np.ones_like(t)),
            ("observations", visits.n),
            ("inverse", 1 / visits.n),
            ("total", visits.n * visits.mean),
            ("within", visits.within),
            ("freedom", visits.freedom),
        ):
            self._sums[name] += np.bincount(region, term, self._size)
        self._triples(region, t, visits.n, visits.mean)
        weight, mean = visits.n, visits.mean
        for level in range(LEVELS):
            region, t, weight, mean = self._pair(level, region, t, weight, mean)
            if not region.size:
                break

    def _grow(self, size: int) -> None:
        if size <= self._size:
            return
        size = max(size, 2 * self._size if self._size else size)
        extra = size - self._size

        def wider(old: Array | None, *shape: int) -> Array:
            return np.zeros((size, *shape)) if old is None else np.concatenate([old, np.zeros((extra, *shape))])

        names = ("visits", "observations", "inverse", "total", "within", "freedom", "worst", "worst step")
        self._sums = {name: wider(self._sums.get(name)) for name in names}
        names = ("pairs", "moved", "noise", "gap4", "error", "triples", "r2", "r4")
        self._levels = {name: wider(self._levels.get(name), LEVELS) for name in names}
        self._waiting = {name: wider(self._waiting.get(name), LEVELS) for name in ("t", "weight", "mean")}
        self._last = np.concatenate([self._last, np.zeros((extra, 2, 3))])
        self._size = size

    def _triples(self, region: Whole, t: Array, n: Array, y: Array) -> None:
        """Three visits in a row, those of the last piece included."""
        here = np.unique(region)
        known = self._last[here]  # (regions here, 2, 3): t, n, y of the last two visits, n = 0 where there was none
        all_region = np.concatenate([np.repeat(here, 2), region])
        order = np.argsort(all_region, kind="stable")
        values = np.concatenate([known.reshape(-1, 3), np.stack([t, n, y], -1)])[order]
        values, owner = values[values[:, 1] > 0], all_region[order][values[:, 1] > 0]
        ends = np.flatnonzero(np.diff(np.append(owner, -1)) != 0)
        self._last[here, 1] = values[ends]
        two = ends[(ends > 0) & (owner[np.maximum(ends - 1, 0)] == owner[ends])]
        self._last[owner[two], 0] = values[two - 1]
        fits = owner[2:] == owner[:-2]
        (t0, n0, y0), (t1, n1, y1), (t2, n2, y2) = (values[i : len(values) - 2 + i][fits].T for i in range(3))
        if not t0.size:
            return
        owner = owner[2:][fits]
        share = (t2 - t1) / (t2 - t0)
        v = 1 / n1 + share**2 / n0 + (1 - share) ** 2 / n2
        square = (y1 - share * y0 - (1 - share) * y2) ** 2 / v
        age = np.minimum(np.log2(t1 - (self._first_step or 0.0) + 1).astype(np.int64), LEVELS - 1)
        cell = owner * LEVELS + age
        for name, term in (("triples", np.ones_like(square)), ("r2", square), ("r4", square**2)):
            self._levels[name] += np.bincount(cell, term, self._size * LEVELS).reshape(self._size, LEVELS)
        rank = np.lexsort((square, owner))
        top = rank[np.flatnonzero(np.diff(np.append(owner[rank], -1)) != 0)]
        higher = top[square[top] > self._sums["worst"][owner[top]]]
        self._sums["worst"][owner[higher]] = square[higher]
        self._sums["worst step"][owner[higher]] = t1[higher]

    def _pair(
        self, level: int, region: Whole, t: Array, weight: Array, mean: Array
    ) -> tuple[Whole, Array, Array, Array]:
        """Pairs blocks of 2**level visits, notes how they differ, and returns the blocks of twice the size."""
        here = np.unique(region)
        held = {name: part[here, level] for name, part in self._waiting.items()}
        old = held["weight"] > 0
        owner = np.concatenate([here[old], region])
        order = np.argsort(owner, kind="stable")
        owner = owner[order]
        t, weight, mean = (
            np.concatenate([held[name][old], part])[order]
            for name, part in (("t", t), ("weight", weight), ("mean", mean))
        )
        start = np.flatnonzero(np.diff(np.append(-1, owner)) != 0)
        rank = np.arange(owner.size) - np.repeat(start, np.diff(np.append(start, owner.size)))
        first = np.flatnonzero(rank % 2 == 0)
        paired = first[(first + 1 < owner.size) & (owner[np.minimum(first + 1, owner.size - 1)] == owner[first])]
        left = np.setdiff1d(first, paired, assume_unique=True)
        for part in self._waiting.values():
            part[here, level] = 0.0
        for name, value in (("t", t), ("weight", weight), ("mean", mean)):
            self._waiting[name][owner[left], level] = value[left]
        a, b = paired, paired + 1
        gap2 = (t[b] - t[a]) ** 2
        v = 1 / weight[a] + 1 / weight[b]
        for name, term in (
            ("pairs", np.ones_like(v)),
            ("moved", gap2 * (mean[b] - mean[a]) ** 2),
            ("noise", gap2 * v),
            ("gap4", gap2**2),
            ("error", 2 * (gap2 * v) ** 2),
        ):
            self._levels[name][:, level] += np.bincount(owner[a], term, self._size)
        total = weight[a] + weight[b]
        share = weight[b] / total
        return owner[a], t[a] + share * (t[b] - t[a]), total, mean[a] + share * (mean[b] - mean[a])

    # ------------------------------------------------------------------------------------------------------ reading

    @property
    def steps(self) -> int:
        """Steps from the first visit to the last."""
        return 0 if self._first_step is None else int(self._last_step - self._first_step) + 1

    def read(self) -> list[Reading]:
        """One reading for each region that was visited at all."""
        return [self._region(int(k)) for k in np.flatnonzero(self._sums.get("visits", np.zeros(0)))]

    def _region(self, k: int) -> Reading:
        sums = {name: float(part[k]) for name, part in self._sums.items()}
        levels = {name: part[k] for name, part in self._levels.items()}
        triples = float(levels["triples"].sum())
        between = float(levels["r2"].sum()) / triples if triples else math.nan
        if sums["freedom"] >= ENOUGH:
            variance, source = sums["within"] / sums["freedom"], "within"
        else:
            variance, source = between, "triples"
        drift, limit, block, course = _drift(levels, variance)
        doubts = _doubts(sums, levels, variance, between, source, drift)
        return Reading(
            region=k,
            visits=int(sums["visits"]),
            observations=sums["observations"],
            visit_rate=min(sums["visits"] / max(self.steps, 1), 1.0),
            batch=max(sums["visits"] / sums["inverse"], 1.0),
            mean=sums["total"] / sums["observations"],
            sigma=math.sqrt(variance) if variance >= 0 else math.nan,
            sigma_from=source,
            drift=drift,
            drift_limit=limit,
            block=block,
            course=course,
            doubts=doubts,
        )


def _drift(levels: dict[str, Array], variance: float) -> tuple[float, float, int, str]:
    """Drift, the least that would have been seen, the block size and the course."""
    known = (levels["pairs"] >= 3) & (levels["gap4"] > 0)
    if not known.any() or not math.isfinite(variance):
        return math.nan, math.nan, 0, "unknown"
    gap4 = np.where(known, levels["gap4"], 1.0)
    square = np.where(known, (levels["moved"] - variance * levels["noise"]) / gap4, 0.0)
    error = np.where(known, variance * np.sqrt(levels["error"]) / gap4, np.inf)
    limit = math.sqrt(VISIBLE * float(error[known].min()))
    z = np.where(known, square / np.maximum(error, 1e-300), 0.0)
    clear = np.flatnonzero(z >= CLEAR)
    at = int(clear[0]) if clear.size else int(np.argmax(z))
    if z[at] < VISIBLE:
        return 0.0, limit, 0, "still"
    course = _course(square, known, at)
    if course == "steady" and z[at + 1 :].max(initial=0) > z[at] and square[at + 1] > 0.5 * square[at]:
        at += 1  # the level that was just clear is more often too high than too low
    return math.sqrt(square[at]), limit, 2**at, course


def _course(square: Array, known: npt.NDArray[np.bool_], at: int) -> str:
    """Steady drift is alike at all block sizes; that of a random walk falls as one over the block size."""
    last = int(np.flatnonzero(known)[-1])
    if last < at + 2:
        return "steady"
    fall = square[at + 2] / square[at]
    return "wandering" if fall < 0.5 else "steady"  # a walk falls to 1/4


def _doubts(
    sums: dict[str, float],
    levels: dict[str, Array],
    variance: float,
    between: float,
    source: str,
    drift: float,
) -> tuple[str, ...]:
    """What speaks against the assumptions, at a false alarm probability of 1e-6 each under Gaussian noise."""
    from scipy.special import ndtri

    found = []
    count = float(levels["triples"].sum())
    if count < ENOUGH:
        return (f"only {int(sums['visits'])} visits: too few to judge",)
    z = -float(ndtri(FALSE_ALARM / 2))
    tails = float(levels["r4"].sum()) / count / between**2 if between > 0 else 3.0
    if tails - 3 > z * math.sqrt(24 * 2 / count) and tails > 4:  # neighbouring triples share visits: half the evidence
        found.append(f"heavy tails or changing noise: kurtosis {tails:.1f} where Gaussian noise has 3")
    worst = math.sqrt(sums["worst"] / between) if between > 0 else 0.0
    if worst > -float(ndtri(min(FALSE_ALARM / (2 * count), 0.5))):
        found.append(f"a jump or outlier of {worst:.1f} standard deviations at step {sums['worst step']:.0f}")
    many = levels["triples"] >= 100
    if many.sum() >= 2:
        size = levels["r2"][many] / levels["triples"][many]
        spread = np.sqrt(2 * max(tails - 1, 2.0) / levels["triples"][many]) * size
        low, high = int(np.argmin(size)), int(np.argmax(size))
        cells = float(many.sum())
        if size[high] - size[low] > -float(ndtri(FALSE_ALARM / cells**2)) * math.hypot(spread[low], spread[high]):
            ratio = math.sqrt(size[high] / max(float(size[low]), 1e-300))
            found.append(f"the noise changes over time: its deviation by a factor of {ratio:.1f}")
    if source == "within" and between > variance * (1.3 + z * math.sqrt(4 / count)):
        ratio = math.sqrt(between / max(variance, 1e-300))
        found.append(f"visits scatter {ratio:.1f} times as much as their samples do: the samples of a visit are alike")
    if math.isfinite(drift) and variance > 0 and drift > math.sqrt(variance):
        found.append("the drift of a step is larger than the noise: averaging does not help")
    return tuple(found)
