r"""Noise and drift of every region, estimated from a log in one pass.

**Noise.** If the log contains the single observations of a visit, their pooled variance. Otherwise the deviation of the
middle one of three consecutive visits from the line through its neighbours,

.. math:: r = \bar y_1 - \lambda\bar y_0 - (1-\lambda)\bar y_2, \quad \lambda = \frac{t_2-t_1}{t_2-t_0}, \qquad
          E r^2 = s^2 v, \quad v = \frac1{n_1} + \frac{\lambda^2}{n_0} + \frac{(1-\lambda)^2}{n_2}

on a line of any slope: this is ``rice_variance(order=2)`` for gaps and batches of any size.

**Drift.** See :mod:`theory.drift_estimate`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from theory.assumption_checks import STEPS_NEEDED, assumption_warnings
from theory.drift_estimate import drift
from theory.log import VisitTable

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

LEVELS = 26
"""Blocks have up to 2**25 visits."""
OVERLAP = 35 / 18
"""Variance of a sum of squared triples over that of independent ones, at visits of every step: 1 + 2(4/9 + 1/36)."""
ENOUGH = 30
"""Degrees of freedom from which the scatter within visits is used rather than that between visits."""
BLURRED = 3.0
"""A row that sums up several updates does not say when its visits were. A movement of d in that time adds d²/12 to the
variance s²/n of a visit; a warning is given where it would add a quarter."""
SUMS = (
    *("rows", "visits", "observations", "inverse", "total", "within", "freedom"),
    *("worst", "worst step", "follow", "product", "white"),
)
BY_LEVEL = ("pairs", "moved", "noise", "gap4", "error", "cross", "most", "most step", "triples", "r2", "r4")


class Reading(NamedTuple):
    """Estimates for one region of a log."""

    region: int
    visits: int
    observations: float
    visit_rate: float
    """Share of the tracker's updates that visit the region; share of the steps if the log does not count updates."""
    batch: float
    """Harmonic mean of the number of observations per visit, which determines the noise of a mean."""
    mean: float
    sigma: float
    sigma_from: str
    """"within" visits or between "triples" of them."""
    sigma_error: float
    """Its standard error."""
    drift: float
    """Root mean square drift from one update of the tracker to the next; 0 if not significantly different from 0."""
    drift_error: float
    """Standard error of the drift if it is steady; 0 without drift."""
    drift_limit: float
    """A steady drift above this would have been detected."""
    block: int
    """Number of rows per block at which the drift was estimated; 0 without drift."""
    course: str
    """"still", "steady", "wandering" if the drift is smaller over longer blocks, "jump" if it all came at once, or
    "unknown"."""
    steps: int
    """Logged steps at which the region was visited."""
    warnings: tuple[str, ...]
    """Assumptions that the data contradict, one line each; empty if there are too few steps to judge."""

    @property
    def judged(self) -> bool:
        """Whether there were enough visits to check the assumptions."""
        return self.steps >= STEPS_NEEDED

    @property
    def plausible(self) -> bool:
        """Whether the assumptions were checked and none is contradicted."""
        return self.judged and not self.warnings

    @property
    def remarks(self) -> tuple[str, ...]:
        """The warnings, preceded by a line that says so if the region could not be judged."""
        missing = () if self.judged else (f"not judged: {self.steps} of {STEPS_NEEDED} steps",)
        return missing + self.warnings


class Readings:
    """Accumulates visits piece by piece; memory depends only on the number of regions.

    >>> rng = np.random.default_rng(0)
    >>> t = np.arange(4000)
    >>> y = 0.05 * t + rng.normal(size=4000)
    >>> readings = Readings()
    >>> one, none = np.ones(4000), np.zeros(4000)
    >>> readings.add(VisitTable(0 * t, t, one, y, none, none, visits=one, updates=one))
    >>> (reading,) = readings.read()
    >>> round(reading.sigma, 1), round(reading.drift, 2), reading.course
    (1.0, 0.05, 'steady')
    """

    def __init__(self) -> None:
        self._size = 0
        self._sums: dict[str, Array] = {}
        self._levels: dict[str, Array] = {}
        self._waiting: dict[str, Array] = {}
        self._last: Array = np.zeros((0, 3, 3))
        self._first_step: float | None = None
        self._last_step = 0.0
        self._counted = self._counted_first = 0.0
        self.summed = False
        """Whether rows sum up several updates of the tracker."""

    # ------------------------------------------------------------------------------------------------------- adding

    def add(self, visits: VisitTable) -> None:
        """Add the visits of another piece, in order of region and step, all later than those before."""
        if not visits.region.size:
            return
        self._grow(int(visits.region[-1]) + 1)
        logged, at = np.unique(visits.step, return_index=True)
        self._counted += float(visits.updates[at].sum())
        if self._first_step is None:
            self._first_step, self._counted_first = float(logged[0]), float(visits.updates[at[0]])
        self._last_step = float(logged[-1])
        self.summed |= bool((visits.visits > 1).any())
        region, t = visits.region, visits.step.astype(np.float64)
        for name, term in (
            ("rows", np.ones_like(t)),
            ("visits", visits.visits),
            ("observations", visits.n),
            ("inverse", visits.visits**2 / visits.n),
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

        self._sums = {name: wider(self._sums.get(name)) for name in SUMS}
        self._levels = {name: wider(self._levels.get(name), LEVELS) for name in BY_LEVEL}
        self._waiting = {name: wider(self._waiting.get(name), LEVELS) for name in ("t", "weight", "mean")}
        self._last = np.concatenate([self._last, np.zeros((extra, 3, 3))])
        self._size = size

    def _triples(self, region: Whole, t: Array, n: Array, y: Array) -> None:
        """Accumulate triples of consecutive visits, including those that began in the previous piece."""
        here = np.unique(region)
        known = self._last[here]  # (regions here, 3, 3): t, n, y of the last three visits, n = 0 where there was none
        owner = np.concatenate([np.repeat(here, 3), region])
        order = np.argsort(owner, kind="stable")
        fresh = (np.arange(owner.size) >= 3 * here.size)[order]
        values = np.concatenate([known.reshape(-1, 3), np.stack([t, n, y], -1)])[order]
        there = values[:, 1] > 0
        values, owner, fresh = values[there], owner[order][there], fresh[there]
        ends = np.flatnonzero(np.diff(np.append(owner, -1)) != 0)
        for back in range(3):
            old = ends[(ends >= back) & (owner[np.maximum(ends - back, 0)] == owner[ends])]
            self._last[owner[old], 2 - back] = values[old - back]
        if owner.size < 3:
            return
        (t0, n0, y0), (t1, n1, y1), (t2, n2, y2) = (values[i : len(values) - 2 + i].T for i in range(3))
        fits, fresh, owner = owner[2:] == owner[:-2], fresh[2:], owner[2:]
        share = np.divide(t2 - t1, t2 - t0, out=np.full_like(t0, 0.5), where=fits)
        v = 1 / n1 + share**2 / n0 + (1 - share) ** 2 / n2
        r = (y1 - share * y0 - (1 - share) * y2) / np.sqrt(v)
        self._follow(owner, fits, fresh, r, share, v, n1)
        good = fits & fresh
        if not good.any():
            return
        owner, t1, square = owner[good], t1[good], r[good] ** 2
        age = np.minimum(np.log2(t1 - (self._first_step or 0.0) + 1).astype(np.int64), LEVELS - 1)
        cell = owner * LEVELS + age
        for name, term in (("triples", np.ones_like(square)), ("r2", square), ("r4", square**2)):
            self._levels[name] += np.bincount(cell, term, self._size * LEVELS).reshape(self._size, LEVELS)
        top = _largest(owner, square)
        higher = top[square[top] > self._sums["worst"][owner[top]]]
        self._sums["worst"][owner[higher]] = square[higher]
        self._sums["worst step"][owner[higher]] = t1[higher]

    def _follow(
        self,
        owner: Whole,
        fits: npt.NDArray[np.bool_],
        fresh: npt.NDArray[np.bool_],
        r: Array,
        share: Array,
        v: Array,
        middle: Array,
    ) -> None:
        """Accumulate products of triples that share two visits, and their mean under white noise of variance 1."""
        both = fits[1:] & fits[:-1] & (owner[1:] == owner[:-1]) & fresh[1:]
        expected = -(share[1:] / middle[:-1] + (1 - share[:-1]) / middle[1:]) / np.sqrt(v[1:] * v[:-1])
        for name, term in (("follow", np.ones_like(expected)), ("product", r[1:] * r[:-1]), ("white", expected)):
            self._sums[name] += np.bincount(owner[1:][both], term[both], self._size)

    def _pair(
        self, level: int, region: Whole, t: Array, weight: Array, mean: Array
    ) -> tuple[Whole, Array, Array, Array]:
        """Pair blocks of 2**level visits, accumulate their differences, and return the blocks of twice the size."""
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
        moved = gap2 * (mean[b] - mean[a]) ** 2
        for name, term in (
            ("pairs", np.ones_like(v)),
            ("moved", moved),
            ("noise", gap2 * v),
            ("gap4", gap2**2),
            ("error", 2 * (gap2 * v) ** 2),
            ("cross", 4 * gap2**3 * v),
        ):
            self._levels[name][:, level] += np.bincount(owner[a], term, self._size)
        top = _largest(owner[a], moved)
        top = top[moved[top] > self._levels["most"][owner[a][top], level]]
        self._levels["most"][owner[a][top], level] = moved[top]
        self._levels["most step"][owner[a][top], level] = (t[a][top] + t[b][top]) / 2
        total = weight[a] + weight[b]
        share = weight[b] / total
        return owner[a], t[a] + share * (t[b] - t[a]), total, mean[a] + share * (mean[b] - mean[a])

    # ------------------------------------------------------------------------------------------------------ reading

    @property
    def updates(self) -> int:
        """Updates of the tracker from the first visit to the last; steps if the log does not count updates."""
        if self._counted > 0:  # otherwise NaN, or nothing was read
            return int(self._counted)
        return 0 if self._first_step is None else int(self._last_step - self._first_step) + 1

    @property
    def _stride(self) -> float:
        """Steps from one update of the tracker to the next."""
        later = self._counted - self._counted_first
        return (self._last_step - (self._first_step or 0.0)) / later if later > 0 else 1.0

    def read(self) -> list[Reading]:
        """One reading for each region that was visited."""
        return [self._region(int(k)) for k in np.flatnonzero(self._sums.get("visits", np.zeros(0)))]

    def _region(self, k: int) -> Reading:
        sums = {name: float(part[k]) for name, part in self._sums.items()}
        levels = {name: part[k] for name, part in self._levels.items()}
        triples = float(levels["triples"].sum())
        between = float(levels["r2"].sum()) / triples if triples else math.nan
        tails = float(levels["r4"].sum()) / triples / between**2 if between > 0 else 3.0
        if sums["freedom"] >= ENOUGH and not (self.summed and triples >= ENOUGH):  # the scatter of a sum contains drift
            variance, source, freedom = sums["within"] / sums["freedom"], "within", sums["freedom"]
        else:  # neighbouring triples share visits: they count for about half as many independent ones
            variance, source, freedom = between, "triples", triples / OVERLAP
        scatter = max(tails - 1, 2.0) if math.isfinite(tails) else 2.0
        found = drift(levels, variance, freedom)
        warnings = assumption_warnings(sums, levels, variance, between, source, found.size * self._stride)
        if found.course == "jump":
            warnings += (f"most of the movement is near step {found.jump:.0f}: a jump or a short fall, not steady",)
        moved = found.size * self._stride * self.updates / sums["rows"]
        if self.summed and moved > math.sqrt(max(variance, 0.0) * BLURRED * sums["inverse"] / sums["visits"]):
            warnings += (f"it moves by {moved:.3g} within one logged row: log more often to separate noise from drift",)
        if found.course == "wandering":
            warnings += ("the drift does not last: it is smaller over longer blocks, as in a random walk",)
        return Reading(
            region=k,
            visits=int(sums["visits"]),
            observations=sums["observations"],
            visit_rate=min(sums["visits"] / max(self.updates, 1), 1.0),
            batch=max(sums["visits"] / sums["inverse"], 1.0),
            mean=sums["total"] / sums["observations"],
            sigma=math.sqrt(variance) if variance >= 0 else math.nan,
            sigma_from=source,
            sigma_error=math.sqrt(max(variance, 0.0) * scatter / freedom) / 2 if freedom else math.nan,
            drift=found.size * self._stride,
            drift_error=found.error * self._stride,
            drift_limit=found.limit * self._stride,
            block=found.block,
            course=found.course,
            steps=int(sums["rows"]),
            warnings=warnings,
        )


def _largest(owner: Whole, value: Array) -> Whole:
    """Where the largest value of each owner is."""
    rank = np.lexsort((value, owner))
    return rank[np.flatnonzero(np.diff(np.append(owner[rank], -1)) != 0)]
