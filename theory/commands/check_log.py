"""``aria-sim check-log``: what the discrepancy log of a training run says about its tracker."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import click

from theory import printing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aria.interfaces import Tracker
    from theory.assumptions import Array
    from theory.log import Log, VisitTable
    from theory.noise_estimate import Reading
    from theory.simulate import Progress

REPLAYED, UPDATES = 10_000, 200_000_000
"""A tracker is replayed on so many of the last updates, or fewer if that would be more updates of regions."""
KEPT = 500_000
"""Visits kept for that; a piece of the log more than these may be in memory."""
WELL_SET = 1.25
"""Certified error over the best, up to which a tracker is called well set: rates from half to twice the best lose
more (41 % and 67 %), a window against an average less."""
SHOWN = 20
"""Regions in the table; JSON holds all."""
UNSHOWN = ("doubts", "mean", "from", "best_mse")
"""What the table leaves out of a region."""
DRAWN = 4
"""Regions in the figure."""
SHOW_BAR = 1 << 24
"""Bytes from which reading takes long enough for a progress bar."""


class Replayed(NamedTuple):
    """What a tracker did on the last updates of a log, one entry per region."""

    lag2: Array
    """Mean square lag in updates."""
    noise: Array
    """Mean certified variance in units of the noise; NaN without a certificate."""
    missed: Array
    """Mean over visits of (batch mean - last estimate)²."""
    missed_stderr: Array
    inverse: Array
    """Mean over those visits of 1/n."""
    path: dict[int, tuple[Array, Array]]
    """Steps and estimates of the regions that are drawn."""


@click.command("check-log", cls=printing.OneLine)
@click.argument("file")
@click.option("--tracker", "spec", help="The spec of the tracker that the run used, such as 'ema(rate=0.1)'.")
@click.option("--plot", callback=printing.figure, metavar="FILE", help="Draw visits and, with --tracker, estimates.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object with all regions instead of the table.")
def command(file: str, spec: str | None, plot: str | None, as_json: bool) -> None:
    """Noise and drift of every region in the log FILE, whether the assumptions are plausible, and how a tracker did.

    FILE is JSONL or CSV with the columns step, region and value, or step, region, n, mean and perhaps square, the mean
    of n observations and of their squares; the log of a run also says of how many updates of its tracker each row is
    the sum. "±" is a standard error. "drift" is that from one update to the next, 0 where none can be told from 0; a
    steady one of "unseen below" would have shown.

    With --tracker the last 10 000 updates are replayed: "certified" is the tracker's mean squared error as proved for
    this noise, drift and these visits, "× best" that over the best average's, "× limit" that over the least that any
    linear tracker could certify, "measured" its error in predicting the next visit less the noise, "bank" the same for
    the self-tuning bank. The last two need a log of every update.
    """
    from aria import registry
    from aria.trackers import Bank
    from theory.log import Log
    from theory.simulate import bar

    tracker = None if spec is None else registry.tracker(spec)
    if tracker is not None and tracker.statistic not in ("mean", "constant"):
        raise printing.Refusal(f"the tracker must estimate the mean, got one of the {tracker.statistic}: {spec!r}")
    log = Log(file)
    with bar("reading", hidden=log.size < SHOW_BAR) as progress:
        readings, tail, stride = _read(log, progress)
    own = bank = None
    summed = bool((tail.visits > 1).any())
    turns = 1 if summed else 2
    regions = [r.region for r in readings]
    drawn = [r.region for r in sorted(readings, key=lambda r: -r.visits)[:DRAWN]]
    if tracker is not None:
        with bar("replaying", hidden=tail.step.size * float(tail.updates.mean()) < 20_000) as progress:
            with printing.blamed_on(tracker):
                own = _replay(tracker, tail, regions, drawn, stride, lambda at, of: progress(at, turns * of))
            if not summed:
                bank = _replay(Bank(), tail, regions, drawn, stride, lambda at, of: progress(at + of, turns * of))
    rows = [_row(reading, i, best, own, bank) for i, (reading, best) in enumerate(zip(readings, _best(readings)))]
    if plot is not None:
        _draw(plot, log.path.name, tail, drawn, own)
    found = {
        "rows": log.rows,
        "torn": log.torn,
        "summed": summed,
        "plausible_regions": sum(not r.doubts for r in readings),
        "regions": rows,
    }
    if as_json:
        click.echo(printing.as_json(found))
        return
    _print(found, rows, readings, log.torn)


def _print(found: dict[str, object], rows: list[dict[str, object]], readings: list[Reading], torn: bool) -> None:
    click.echo(f"{found['rows']} rows, {len(rows)} regions")
    if torn:
        click.echo("the last line has no end: it is left out")
    if found["summed"]:
        click.echo(
            "rows sum up several updates of the tracker: what it and the bank would have predicted is measured "
            "on a log of every update (aria distill --logging_steps 1)"
        )
    shown = sorted(range(len(rows)), key=lambda i: -readings[i].visits)[:SHOWN]
    click.echo(printing.table([{k: v for k, v in rows[i].items() if k not in UNSHOWN} for i in sorted(shown)]))
    if len(rows) > SHOWN:
        click.echo(f"({len(rows) - SHOWN} more regions with fewer visits: --json has all)")
    click.echo(f"assumptions plausible in {found['plausible_regions']} of {len(rows)} regions")
    doubts = [f"region {r.region}: {doubt}" for r in readings for doubt in r.doubts]
    for line in doubts[:SHOWN]:
        click.echo(line)
    if len(doubts) > SHOWN:
        click.echo(f"({len(doubts) - SHOWN} more doubts: --json has all)")


def _read(log: Log, progress: Progress) -> tuple[list[Reading], VisitTable, float]:
    """Readings of all regions, the last visits in order of step, and how many updates one replayed one stands for."""
    import numpy as np

    from theory.log import VisitTable
    from theory.noise_estimate import Readings

    readings, pieces, replayed = Readings(), [], 0.0
    for visits in log.visits(progress):
        readings.add(visits)
        visits = visits._replace(updates=np.nan_to_num(visits.updates, nan=1.0))
        replayed += float(visits.updates[np.unique(visits.step, return_index=True)[1]].sum())
        pieces.append(visits)
        while sum(piece.step.size for piece in pieces[1:]) >= KEPT:
            del pieces[0]
    tail = VisitTable(*(np.concatenate(parts) for parts in zip(*pieces, strict=True)))
    steps, index = np.unique(tail.step, return_index=True)
    order = np.lexsort((tail.region, tail.step))
    found = readings.read()
    most = min(REPLAYED, UPDATES // len(found) + 1)
    summed = tail.updates[index][::-1].cumsum()  # from the last step back
    if summed[0] > most:
        raise ValueError(f"{log.path.name}: its last rows sum up {summed[0]:.0f} updates, more than {most} to replay")
    last = int(np.searchsorted(summed, most, side="right"))
    order = order[tail.step[order] >= steps[-last]]
    return found, VisitTable(*(part[order] for part in tail)), readings.updates / max(replayed, 1.0)


def _replay(
    tracker: Tracker, tail: VisitTable, regions: list[int], drawn: list[int], stride: float, progress: Progress
) -> Replayed:
    """The shipped tracker on the visits of the log: one update for each logged step, or as many as it sums up."""
    import numpy as np
    import torch

    from aria.interfaces import RegionStats
    from aria.threads import one_thread

    count = len(regions)
    column = np.searchsorted(np.array(regions), tail.region)
    start = np.flatnonzero(np.diff(np.append(-1, tail.step)) != 0)
    ends = np.append(start[1:], tail.step.size)
    state, seen = tracker.init((count,)), np.zeros(count)
    sums = np.zeros((6, count))  # lag², noise, their steps; misses, squared misses, 1/n of visits
    misses, certain = np.zeros(count), torch.ones(count, dtype=torch.float64)
    where, kept = np.searchsorted(np.array(regions), drawn), np.empty((start.size, len(drawn)))
    with torch.inference_mode(), one_thread():
        value = tracker.estimate(state).value.numpy()
        for i, (first, end) in enumerate(zip(start, ends, strict=True)):
            at, n, mean = column[first:end], tail.n[first:end], tail.mean[first:end]
            known = seen[at] > 0
            miss = np.where(known, (mean - value[at]) ** 2, 0.0)
            sums[3, at] += miss
            sums[4, at] += miss**2
            sums[5, at] += known / n
            misses[at] += known
            told = np.zeros((3, count))
            told[:, at] = n, n * mean, n * mean**2 + tail.within[first:end]
            visits = np.zeros(count)
            visits[at] = tail.visits[first:end]
            for share in _shares(visits, int(tail.updates[first])):
                seen = np.maximum(seen, share > 0)
                n_, total, square = torch.from_numpy(share * told)
                state = tracker.update(state, RegionStats(n_, total, square, certain))
                certificate = tracker.certificate(state)
                if certificate is not None:
                    sums[0] += seen * (stride * certificate.lag.numpy()) ** 2
                    sums[1] += seen * certificate.noise.numpy()
                    sums[2] += seen
            value = tracker.estimate(state).value.numpy()
            kept[i] = value[where]
            if i % 500 == 0:
                progress(i, start.size)
    with np.errstate(divide="ignore", invalid="ignore"):
        missed = sums[3] / misses
        stderr = np.sqrt(np.maximum(sums[4] / misses - missed**2, 0) / misses)
        path = {region: (tail.step[start].astype(np.float64), kept[:, j]) for j, region in enumerate(drawn)}
        return Replayed(sums[0] / sums[2], sums[1] / sums[2], missed, stderr, sums[5] / misses, path)


def _shares(visits: Array, updates: int) -> Iterator[Array]:
    """For each of the updates that a row sums up, the part of it that falls to each region: visits evenly spread."""
    import numpy as np

    for i in range(updates):
        visited = np.floor((i + 1) * visits / updates) > np.floor(i * visits / updates)
        yield visited / np.maximum(visits, 1.0)


def _best(readings: list[Reading]) -> list[tuple[float, float, float]]:
    """The best rate, its error and the limit of linear trackers for each region; NaN where too little is known."""
    import numpy as np

    from theory import bounds, limits

    s, d, q, n = np.array([(r.sigma, r.drift, r.visit_rate, r.batch) for r in readings]).T
    known = np.isfinite(s) & np.isfinite(d)
    found = np.full((3, len(readings)), np.nan)
    s, d, q, n = s[known], d[known], q[known], n[known]
    if known.any():
        found[0, known] = bounds.asynchronous_best_rate(q, s, d, n, adaptive=False)
        found[1, known] = bounds.asynchronous_best_mse(q, s, d, n, adaptive=False)
        found[2, known] = limits.linear_limit(s, d, q, n)
    return [(rate, best, limit) for rate, best, limit in found.T.tolist()]


def _row(
    reading: Reading,
    i: int,
    theory: tuple[float, float, float],
    own: Replayed | None,
    bank: Replayed | None,
) -> dict[str, object]:
    """What is said of one region."""
    s, d, q, n = reading.sigma, reading.drift, reading.visit_rate, reading.batch
    rate, best, limit = theory
    row: dict[str, object] = {
        "region": reading.region,
        "visits": reading.visits,
        "visit_rate": q,
        "batch": n,
        "mean": reading.mean,
        "sigma": s,
        "sigma_plus_minus": reading.sigma_error,
        "from": reading.sigma_from,
        "drift": d,
        "drift_plus_minus": reading.drift_error,
        "unseen_below": reading.drift_limit,
        "course": reading.course,
        "best_rate": rate,
        "best_mse": best,
    }
    if own is not None:
        bias2, noise = d**2 * float(own.lag2[i]), s**2 * float(own.noise[i])
        row["certified"] = bias2 + noise
        row["times_best"] = (bias2 + noise) / best if best > 0 else math.nan
        row["times_limit"] = (bias2 + noise) / limit if limit > 0 else math.nan
        if bank is not None:
            row["measured"] = float(own.missed[i]) - s**2 * float(own.inverse[i])
            row["measured_plus_minus"] = float(own.missed_stderr[i])
            row["bank"] = float(bank.missed[i]) - s**2 * float(bank.inverse[i])
        row["verdict"] = _verdict(bias2, noise, best, d)
    return row | {"doubts": list(reading.doubts)}


def _verdict(bias2: float, noise: float, best: float, drift: float) -> str:
    """At the best rate the variance is twice the squared bias."""
    if not math.isfinite(bias2 + noise):
        return "not certified"
    if drift == 0:
        return "no drift seen"
    if bias2 + noise <= WELL_SET * best:
        return "well set"
    return "too slow" if bias2 > noise / 2 else "too fast"


def _draw(path: str, name: str, tail: VisitTable, drawn: list[int], own: Replayed | None) -> None:
    from theory import plots

    seen = {}
    for region in drawn:
        mine = tail.region == region
        seen[region] = (tail.step[mine].astype(float), tail.mean[mine])
    plots.log_readings(f"{name}: the last visits", seen, own.path if own else {}).write(path)
