"""A filter tuned for one kind of drift, used with the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aria import plots
from aria.trackers import EMA, Kalman
from theory import bounds
from theory.exact_samples import synchronous
from theory.figures.base import ALARM, Picture, Rows, column, replicas
from theory.regimes import Drift, Linear, RandomWalk, Regime
from theory.verdict import mean_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

DRIFTS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SERIES = ("kalman", "ema")


def measure(seed: int, size: float) -> Rows:
    """Mean squared error of the Kalman filter with τ = D and of the EMA best for a line, on a line and on a walk."""
    rows = []
    for drift in DRIFTS:
        best, gain = _rates(drift)
        row = {"D/σ": drift}
        courses: dict[str, Drift] = {"line": Linear(drift), "walk": RandomWalk(drift, gaussian=True)}
        for course, move in courses.items():
            for name, tracker, rate in (("kalman", Kalman(1.0, drift), gain), ("ema", EMA(best), best)):
                steps = int(12 / rate) + 10  # the start is forgotten: (1-b)^(12/b) < 10⁻⁵
                drawn = synchronous(tracker, Regime(move), steps=steps, replicas=replicas(20_000, size), seed=seed)
                band = mean_interval(drawn**2, ALARM)
                row |= {f"{course}, {name}": band.value, f"{course}, {name} ±": band.half}
        rows.append(row)
    return rows


def _rates(drift: float) -> tuple[float, float]:
    best = bounds.ema_best_rate(1.0, drift, adaptive=False)
    return float(best), float(bounds.kalman_steady(1.0, drift).gain)


def paint(rows: Rows, panels: Sequence[Axes]) -> None:
    """One panel for each kind of drift."""
    x, y = "drift per step over noise, D/σ or τ/σ", "mean squared error (σ²)"
    fine = np.geomspace(DRIFTS[0], DRIFTS[-1], 60)
    gains = np.asarray(bounds.kalman_steady(1.0, fine).gain)
    best = np.asarray(bounds.ema_best_rate(1.0, fine, adaptive=False))
    for panel, course in zip(panels, ("line", "walk"), strict=True):
        for index, (name, rates) in enumerate(zip(SERIES, (gains, best), strict=True)):
            exact = (
                bounds.ema_mse(rates, 1.0, fine, adaptive=False)
                if course == "line"
                else bounds.ema_mse_random_walk(rates, 1.0, fine)
            )
            label = ("Kalman with τ = D", "EMA, best for a line")[index]
            plots.curve(panel, index, fine.tolist(), np.asarray(exact).tolist(), f"{label} (exact)")
            half = column(rows, f"{course}, {name} ±")
            plots.dots(
                panel, index, column(rows, "D/σ"), column(rows, f"{course}, {name}"), half, f"{label}, simulated"
            )
        panel.set(title={"line": "on a line", "walk": "on a random walk"}[course], xlabel=x, ylabel=y)
        panel.set(xscale="log", yscale="log", ylim=(1e-3, 2))


PICTURE = Picture(
    "A Kalman filter tuned to the wrong kind of drift",
    "“Moves by at most D per step” and “takes random steps of size D” are different assumptions. The steps of a random "
    "walk cancel, so its filter averages over a long time; on a line the same filter lags so far behind that its error "
    "is nearly that of a single observation. The opposite mistake, an average for a line on a walk, costs less.",
    measure,
    paint,
    panels=2,
)
