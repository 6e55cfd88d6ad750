"""A confidence radius for a fixed step is too small if the visits depend on the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aria import plots
from aria.trackers import EMA
from theory import bounds
from theory.figures.base import ALARM, Picture, Rows, column, replicas
from theory.regimes import Bernoulli, Regime, Selective, Visits
from theory.simulate import simulate
from theory.verdict import Interval, proportion_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

RATE = 0.1
REST = 0.05
"""Probability of a visit if the error exceeds the radius, and of any visit if visits are independent."""
STEPS = 400
DELTAS = (0.1, 0.03, 0.01, 0.003)
SERIES = {
    "coin": "independent visits, radius for a fixed step",
    "selective": "selective visits, radius for a fixed step",
    "union": "selective visits, radius for adaptive visits",
}


def measure(seed: int, size: float) -> Rows:
    """Share of errors beyond the radius of the tracker's own certificate, without drift and with normal noise."""
    settled = bounds.ema_profile(RATE)
    rows = []
    for delta in DELTAS:
        fixed = float(bounds.radius_sub_gaussian(settled, 1.0, 0.0, delta))
        wide = float(bounds.radius_adaptive_visits(settled, 1.0, 0.0, delta, STEPS))
        row = {"δ": delta}
        runs: dict[str, tuple[Visits, int]] = {
            "coin": (Bernoulli(REST), 1),
            "selective": (Selective(fixed, REST), 1),
            "union": (Selective(wide, REST), STEPS),
        }
        for name, (visits, times) in runs.items():
            band = _misses(visits, delta, times, replicas(20_000, size), seed)
            row |= {name: band.value, f"{name} low": band.low, f"{name} high": band.high}
        rows.append(row)
    return rows


def _misses(visits: Visits, delta: float, times: int, count: int, seed: int) -> Interval:
    record = ("sample", "certificate")
    found = simulate(EMA(RATE), Regime(visits=visits), steps=STEPS, replicas=count, record=record, seed=seed)
    start, lag, noise = (found[name].numpy() for name in ("start weight", "lag", "noise"))
    certificate = bounds.Profile(start, lag, noise, np.zeros_like(noise))
    radius = np.where(start > 0, np.inf, bounds.radius_sub_gaussian(certificate, 1.0, 0.0, delta, times=times))
    beyond = np.abs(found["filtering"].numpy()) > radius
    return proportion_interval(int(beyond.sum()), beyond.size, ALARM)


def paint(rows: Rows, panels: Sequence[Axes]) -> None:
    """Measured share of misses as a function of the nominal one."""
    (panel,) = panels
    panel.set(
        title=f"EMA of rate {RATE:g}, step {STEPS}",
        xlabel="nominal: at most δ",
        ylabel="measured share of errors beyond the radius",
    )
    x = np.array(column(rows, "δ"))
    panel.plot(x, x, color=plots.INK, lw=1, label="nominal")
    for index, (name, label) in zip((0, 1, 2), SERIES.items(), strict=True):
        value = np.array(column(rows, name))
        seen = value > 0
        sides = np.stack([value - column(rows, f"{name} low"), np.array(column(rows, f"{name} high")) - value])
        colour, stroke, marker = plots.look(index)
        panel.errorbar(
            x[seen], value[seen], yerr=sides[:, seen], fmt=f"{marker}{stroke}", ms=4.5, lw=1, capsize=2.5,
            color=colour, label=label if seen.any() else f"{label}: none seen",
        )  # fmt: skip
        if not seen.all():
            high = np.array(column(rows, f"{name} high"))[~seen]
            more = "none seen, upper end of the interval" if seen.any() else f"{label}: none seen (upper end)"
            panel.plot(x[~seen], high, marker, mfc="none", color=colour, label=more)
    panel.set(xscale="log", yscale="log", ylim=(1e-5, 1))


PICTURE = Picture(
    "Fixed-time radii are invalid under adaptive visits",
    "A radius that holds with probability 1−δ at any one step fixed in advance fails more often if errors decide the "
    "visits: here a region is always visited while its error is within the radius and with probability "
    f"{REST:g} otherwise, so that large errors persist. The radius for adaptive visits (T16-4), a union bound over the "
    "number of visits, holds.",
    measure,
    paint,
)
