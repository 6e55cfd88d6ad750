r"""What allocation over regions can gain, estimated from the log of a run (T25, T27).

**Spread.** The discrepancies of the second half of the log, in logarithms. Their variance over the regions, less that
of their noise, is σ²; they are pulled to their mean until they have it, since noise alone would look like a prize.

**Exponent.** The slope of the logarithm of the loss (or, without a file of losses, of the mean discrepancy) over that
of the step. A discrepancy that the sampler divides by the mean of its noise level does not decline, so the loss is
needed.

**Transfer.** One log does not tell it: a fixed allocation never changes, and one that follows noisy estimates goes
where they are too large, which then seem to decline. Unless it is given, the gain is that without transfer, which is
the largest, and the interval is over all values.

Intervals are from resampled regions, with the exponent drawn from its standard error. They cover 90 %.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from theory import bounds
from theory.assumptions import Array
from theory.log import VisitTable

WINDOWS = 8
"""Parts of a log; the second half of them is what the estimates are from."""
BINS = 12
"""Bins of the steps, of equal length in logarithms, for the slope of the loss over the last 7/8 of them."""
ENOUGH = 8
"""Samples in each half from which a region's discrepancy is used."""
REGIONS = 3
"""Fewest regions."""
RESAMPLED = 300
LEAST_EXPONENT, MOST_TRANSFER = 0.02, 0.95
"""Bounds of what intervals are drawn from."""
COVER = (0.05, 0.95)


class NotEnough(ValueError):
    """The log does not determine what was asked for."""


class Range(NamedTuple):
    """An estimate with its interval."""

    value: float
    low: float
    high: float


class Worth(NamedTuple):
    """What allocation can gain on the base measure with the same effort, as shares of the mean discrepancy."""

    regions: int
    seen: float
    """Share of the mass in these regions."""
    spread: Range
    """Standard deviation of log discrepancy over the regions."""
    exponent: Range
    transfer: Range
    gain: Range
    """The most that any rule can gain."""
    so_far: Range
    """What the run's own allocation has gained, if the fitted curves hold."""

    @property
    def ranges(self) -> dict[str, Range]:
        """All estimates by name."""
        return {name: value for name, value in zip(self._fields, self) if isinstance(value, Range)}

    @property
    def sentence(self) -> str:
        """One line.

        >>> one, none = Range(0.05, 0.02, 0.1), Range(0.0, 0.0, 0.0)
        >>> Worth(9, 1.0, one, one, one, one, none).sentence
        'these 9 regions can gain at most 5 % [2, 10]; so far 0 %'
        """
        value, low, high = (f"{100 * x:.2g}" for x in self.gain)
        most = f"these {self.regions} regions can gain at most {value} % [{low}, {high}]"
        return f"{most}; so far {100 * self.so_far.value:.2g} %"


class Slope(NamedTuple):
    """An elasticity and its standard error."""

    value: float
    error: float


def estimate(
    visits: VisitTable,
    mass: Array | None = None,
    losses: tuple[Array, Array] | None = None,
    *,
    exponent: float | None = None,
    transfer: float | None = None,
    seed: int = 0,
) -> Worth:
    """Estimate spread, exponent, transfer and the gain from all visits of a log.

    ``mass`` (K,) are the shares of the regions in the goal, equal by default; ``losses`` are steps and values. A given
    ``exponent`` or ``transfer`` is taken as exact.
    """
    halves = _halves(visits, len(mass) if mass is not None else int(visits.region.max()) + 1)
    share = np.full(len(halves.late), 1 / len(halves.late)) if mass is None else np.asarray(mass, dtype=np.float64)
    known = (halves.samples > ENOUGH) & (halves.late > 0) & (halves.early > 0) & (share > 0)
    if known.sum() < REGIONS:
        found = f"{int(known.sum())} regions have enough samples in both halves of the log"
        raise NotEnough(f"{found}, {REGIONS} are needed")
    seen = float(share[known].sum())
    halves = Halves(*(part[known] for part in halves))
    share = share[known] / seen
    if exponent is None:
        slope = decline(*losses) if losses is not None else _own_decline(visits)
        if slope.value <= 2 * slope.error:
            what = "loss" if losses is not None else "mean discrepancy"
            raise NotEnough(f"the {what} does not decline clearly, so the log has no exponent: give one")
    else:
        slope = Slope(exponent, 0.0)
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(len(share), np.full(len(share), 1 / len(share)), RESAMPLED)
    a = np.maximum(generator.normal(slope.value, slope.error, RESAMPLED), LEAST_EXPONENT)
    tau = generator.uniform(0, MOST_TRANSFER, RESAMPLED) if transfer is None else np.full(RESAMPLED, transfer)
    # A region drawn twice counts as two: it gets twice its mass, and twice its effort.
    drawn = [_gain(share, count, halves, *law) for count, *law in zip(counts, a, tau) if (count > 0).sum() > 1]
    best = np.array(_gain(share, np.ones(len(share)), halves, slope.value, transfer or 0.0))
    low, high = np.quantile(np.array(drawn), COVER, axis=0)
    low, high = np.minimum(low, best), np.maximum(high, best)
    ranges = [Range(*map(float, x)) for x in zip(best, low, high)]
    return Worth(len(share), seen, ranges[0], _range(slope.value, a), _range(transfer or 0.0, tau), *ranges[1:])


def decline(steps: Array, values: Array) -> Slope:
    """The slope of −log value over log step, and its standard error from the scatter of bins.

    >>> t = np.arange(1.0, 2001.0)
    >>> found = decline(t, 3 * t**-0.5)
    >>> round(found.value, 3), found.error < 0.01
    (0.5, True)
    """
    good = (steps > steps.max() / 8) & (values > 0)
    t, y = np.log(steps[good]), values[good]
    place = np.minimum(((t - t.min()) / max(np.ptp(t), 1e-12) * BINS).astype(int), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    if (count > 0).sum() < 4:
        raise NotEnough("the log has too few steps for an exponent: give one")
    x = np.bincount(place, t, BINS)[count > 0] / count[count > 0]
    z = np.log(np.bincount(place, y, BINS)[count > 0] / count[count > 0])
    weight = count[count > 0] / count.sum()
    x = x - (weight * x).sum()
    z = z - (weight * z).sum()
    value = -float((weight * x * z).sum() / (weight * x * x).sum())
    residual = z + value * x
    scatter = float((weight * residual**2).sum() / (len(x) - 2) / (weight * x * x).sum())
    return Slope(value, math.sqrt(scatter))


# ------------------------------------------------------------------------------------------------------ from the visits


class Halves(NamedTuple):
    """One entry for each region."""

    early: Array
    """Mean discrepancy in the first half."""
    late: Array
    """And in the second."""
    noise_early: Array
    """Relative variance of these means."""
    noise_late: Array
    samples: Array
    """Samples of the half that has fewer."""
    effort_early: Array
    """Samples until the middle of the first half."""
    effort_late: Array
    """And until the middle of the second."""


def _halves(visits: VisitTable, regions: int) -> Halves:
    last = float(visits.step.max())
    window = np.minimum((visits.step / (last + 1) * WINDOWS).astype(int), WINDOWS - 1)
    cell = window * regions + visits.region
    shape = (WINDOWS, regions)
    n = np.bincount(cell, visits.n, WINDOWS * regions).reshape(shape)
    total = np.bincount(cell, visits.n * visits.mean, WINDOWS * regions).reshape(shape)
    freedom = np.bincount(visits.region, visits.freedom, regions)
    if freedom.sum() < ENOUGH:
        raise NotEnough("the log has no squares of the observations, so their noise is not known")
    within = np.bincount(visits.region, visits.within, regions)
    level = total.sum(0) / np.maximum(n.sum(0), 1)
    pooled = within.sum() / max((freedom * level**2).sum(), 1e-300)
    own = freedom > 4 * ENOUGH
    relative = np.where(own, within / np.maximum(freedom * level**2, 1e-300), pooled)
    half = WINDOWS // 2
    early, late = n[:half].sum(0), n[half:].sum(0)
    return Halves(
        total[:half].sum(0) / np.maximum(early, 1),
        total[half:].sum(0) / np.maximum(late, 1),
        relative / np.maximum(early, 1),
        relative / np.maximum(late, 1),
        np.minimum(early, late),
        n[: half // 2].sum(0),
        n[: half + half // 2].sum(0),
    )


def _own_decline(visits: VisitTable) -> Slope:
    steps, place = np.unique(visits.step, return_inverse=True)
    n = np.bincount(place, visits.n)
    values: Array = np.bincount(place, visits.n * visits.mean) / n
    return decline((steps + 1.0).astype(np.float64), values.astype(np.float64))


def _gain(
    share: Array, times: Array, halves: Halves, exponent: float, transfer: float
) -> tuple[float, float, float]:
    """Spread, gain and what was gained so far, with each region counted ``times`` times."""
    there = times > 0
    m = (share * times)[there] / (share * times).sum()
    logs, noise = np.log(halves.late[there]), halves.noise_late[there]
    centre = float((m * logs).sum())
    total = float((m * (logs - centre) ** 2).sum())
    # The weighted variance of k independent values is smaller by the factor 1 − Σm².
    left = max(1 - float((m**2).sum()), 1e-12)
    true = max(total / left - float((m * noise).sum()), 0.0)
    level = np.exp((logs - centre) * (math.sqrt(true * left / total) if total > 0 else 0.0))
    effort = (np.maximum(halves.effort_late, 1.0) * times)[there]
    effort = effort / effort.sum()
    base = float(bounds.effort_left(m, level, m, exponent, effort, transfer))
    best = 1 - float(bounds.worth(m, level, exponent, effort, transfer))
    return math.sqrt(true), max(1 - best / base, 0.0), 1 - 1 / base


def _range(value: float, drawn: Array) -> Range:
    low, high = np.quantile(drawn, COVER)
    return Range(value, min(float(low), value), max(float(high), value))
