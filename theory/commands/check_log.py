"""``aria-sim check-log``: noise, drift and assumptions in the discrepancy log of a training run, and its tracker."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import click

from aria.cli import errors, options, tables
from theory.columns import ExplainedCommand

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aria.interfaces import Tracker
    from aria.progress import Report
    from theory.assumptions import Array
    from theory.log import Log, VisitTable
    from theory.noise_estimate import Reading

REPLAYED, UPDATES = 10_000, 200_000_000
"""A tracker is replayed on the last REPLAYED updates, or on fewer if that would be more than UPDATES of regions."""
KEPT = 500_000
"""Visits kept for the replay; one more piece of the log may be in memory."""
WELL_SET = 1.25
"""A tracker is well set if its certified error is at most this times the best: half or twice the best rate lose more
(67 % and 41 %), a window instead of an average loses less."""
SHOWN = 20
"""Most regions in the table; JSON has all."""
UNSHOWN = ("steps", "judged", "warnings", "mean", "from", "best_mse")
"""Columns that are in the JSON output only."""
DRAWN = 4
"""Most regions in the figure."""
SHOW_BAR = 1 << 24
"""Size in bytes from which a progress bar is displayed."""


class Replayed(NamedTuple):
    """Errors of a tracker replayed on the last updates of a log, one entry per region."""

    lag2: Array
    """Mean squared lag in updates."""
    noise: Array
    """Mean certified variance in units of the noise; NaN without certificate."""
    missed: Array
    """Mean over visits of (batch mean - last estimate)²."""
    missed_stderr: Array
    inverse: Array
    """Mean over those visits of 1/n."""
    path: dict[int, tuple[Array, Array]]
    """Steps and estimates of the regions in the figure."""


COLUMNS = {
    "region": "Number of the region.",
    "visits": "Number of tracker updates that visited it.",
    "visit rate": "Share of all tracker updates that visited it.",
    "batch": "Observations per visit (harmonic mean).",
    "sigma": "Estimated standard deviation of one observation.",
    "±": "Standard error of the column before it.",
    "drift": "Estimated drift from one update to the next; 0 if not significantly different from 0.",
    "unseen below": "A steady drift below this would not have been detected.",
    "course": "How the region moved: still, steady, wandering (like a random walk), or jump.",
    "best rate": "Best rate of an exponential moving average for this noise, drift and visit rate.",
    "certified": "With --tracker: mean squared error of the tracker as proved for this noise, this drift and these "
    "visits, if they do not react to the estimates.",
    "× best": "That error divided by the error of the best average.",
    "× limit": "That error divided by the smallest error that any linear tracker can certify.",
    "measured": "Mean squared error in predicting the next visit, minus the noise (needs a log of every update).",
    "bank": "The same for the self-tuning bank.",
    "verdict": "'well set' if certified is at most 1.25 times the best; otherwise 'too slow' if the lag is too large "
    "or 'too fast' if the noise is; 'no drift seen'; 'not certified' if the tracker has no certificate; 'not judged: "
    "20 of 32 steps' if too few logged steps visited the region, with their number and the number needed.",
}


@click.command("check-log", cls=ExplainedCommand, columns=COLUMNS)
@click.argument("file")
@click.option("--tracker", "spec", callback=options.part("tracker"),
              help="Spec of the tracker that the run used, such as 'ema(rate=0.1)'.")  # fmt: skip
@click.option("--plot", callback=options.figure, metavar="FILE", help="Draw visits and, with --tracker, estimates.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object with all regions instead of the table.")
def command(file: str, spec: str | None, plot: str | None, as_json: bool) -> None:
    """Estimate noise and drift of every region in the log FILE and check the assumptions of the theory.

    FILE is the discrepancies.jsonl of a run, or any JSONL or CSV file with the columns step, region and value, or step,
    region, n, mean and optionally square (mean and mean square of n observations). With --tracker, the last 10,000
    updates are replayed to judge how that tracker is set.

    Below the table, one line for each region and assumption that the data contradict. The assumptions of a region with
    fewer than 32 logged steps are not judged; the line says how many there are.
    """
    from aria import registry
    from aria.progress import bar
    from aria.trackers import Bank
    from theory.assumption_checks import STEPS_NEEDED
    from theory.log import Log

    tracker = None if spec is None else registry.tracker(spec)
    if tracker is not None and tracker.statistic not in ("mean", "constant"):
        raise errors.Refusal(f"the tracker must estimate the mean, got one of the {tracker.statistic}: {spec!r}")
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
            with errors.failures_of(tracker):
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
        "plausible_regions": sum(r.plausible for r in readings),
        "judged_regions": sum(r.judged for r in readings),
        "steps_needed": STEPS_NEEDED,
        "regions": rows,
    }
    if as_json:
        click.echo(tables.as_json(found))
        return
    _print(found, rows, readings, log.torn)


def _print(found: dict[str, object], rows: list[dict[str, object]], readings: list[Reading], torn: bool) -> None:
    click.echo(f"{found['rows']} rows, {len(rows)} regions")
    if torn:
        click.echo("the last line is incomplete and was ignored")
    if found["summed"]:
        click.echo(
            "rows sum up several updates of the tracker: the columns measured and bank need a log of every update "
            "(aria distill --logging_steps 1)"
        )
    shown = sorted(range(len(rows)), key=lambda i: -readings[i].visits)[:SHOWN]
    click.echo(tables.table([{k: v for k, v in rows[i].items() if k not in UNSHOWN} for i in sorted(shown)]))
    if len(rows) > SHOWN:
        click.echo(f"({len(rows) - SHOWN} more regions with fewer visits: --json has all)")
    missing = sum(not r.judged for r in readings)
    rest = f", {missing} not judged" if missing else ""
    click.echo(f"assumptions plausible in {found['plausible_regions']} of {len(rows)} regions{rest}")
    remarks = [f"region {r.region}: {remark}" for r in readings for remark in r.remarks]
    for line in remarks[:SHOWN]:
        click.echo(line)
    if len(remarks) > SHOWN:
        click.echo(f"({len(remarks) - SHOWN} more lines: --json has all)")


def _read(log: Log, progress: Report) -> tuple[list[Reading], VisitTable, float]:
    """Readings of all regions, the last visits in order of step, and how many updates each replayed one represents."""
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
    tracker: Tracker, tail: VisitTable, regions: list[int], drawn: list[int], stride: float, progress: Report
) -> Replayed:
    """Replay a tracker on the visits of the log: one update per logged step, or as many as the step sums up."""
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
            observed = np.zeros((3, count))
            observed[:, at] = n, n * mean, n * mean**2 + tail.within[first:end]
            visits = np.zeros(count)
            visits[at] = tail.visits[first:end]
            for share in _shares(visits, int(tail.updates[first])):
                seen = np.maximum(seen, share > 0)
                n_, total, square = torch.from_numpy(share * observed).unbind()
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
    """For each update that a row sums up, the share of the row for each region, with visits evenly spaced."""
    import numpy as np

    for i in range(updates):
        visited = np.floor((i + 1) * visits / updates) > np.floor(i * visits / updates)
        yield visited / np.maximum(visits, 1.0)


def _best(readings: list[Reading]) -> list[tuple[float, float, float]]:
    """Best rate, its error and the limit of linear trackers for each region; NaN if noise or drift is unknown."""
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
    """The columns of one region."""
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
        row["verdict"] = _verdict(bias2, noise, best, d) if reading.judged else reading.remarks[0]
    return row | {"steps": reading.steps, "judged": reading.judged, "warnings": list(reading.warnings)}


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
        here = tail.region == region
        seen[region] = (tail.step[here].astype(float), tail.mean[here])
    plots.log_readings(f"{name}: the last visits", seen, own.path if own else {}).write(path)
