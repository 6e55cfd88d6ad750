"""The cost of rare visits: not more noise, unless visits depend on the error, but more drift between visits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aria import plots
from aria.trackers import EMA
from theory import bounds, limits
from theory.figures.base import Picture, Rows, column, replicas, time_mean
from theory.regimes import Bernoulli, Linear, Regime, Selective, Sparse
from theory.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

RATE = 0.1
DRIFT = 0.01
VISITS = (1.0, 0.5, 0.2, 0.1, 0.05)


def measure(seed: int, size: float) -> Rows:
    """Mean squared error by visit probability: without drift (independent, selective), and on a line."""
    noise = float(bounds.ema_mse(RATE, 1.0, 0.0, adaptive=False))
    rows = []
    for q in VISITS:
        best = float(bounds.asynchronous_best_rate(q, 1.0, DRIFT, adaptive=False))
        row = {
            "q": q,
            "F": noise,
            "F/q": float(bounds.asynchronous_mse(RATE, q, 1.0, 0.0)),
            "best on a line": float(bounds.asynchronous_best_mse(q, 1.0, DRIFT, adaptive=False)),
            "linear limit": float(limits.asynchronous_linear_limit(1.0, DRIFT, q)),
        }
        for name, tracker, regime, steps, count in (
            ("coin", EMA(RATE), Regime(visits=Bernoulli(q)), int(250 / q), 1000),
            ("selective", EMA(RATE), Regime(noise=Sparse(chance=1e-3), visits=Selective(noise**0.5, q)), 2000, 1200),
            ("line", EMA(best), Regime(Linear(DRIFT), visits=Bernoulli(q)), int(24 / (best * q)) + 20, 1000),
        ):
            found = simulate(
                tracker,
                regime,
                steps=steps,
                burn=steps // 2,
                replicas=replicas(count, size),
                record=("sums",),
                seed=seed,
            )
            band = time_mean(found, "sum e²")
            row |= {name: band.value, f"{name} ±": band.half}
        rows.append(row)
    return rows


def paint(rows: Rows, panels: Sequence[Axes]) -> None:
    """Error as a function of visit probability, without drift and on a line."""
    x, y = "probability of a visit, q", "mean squared error (σ²)"
    rest, line = panels
    rest.set(title=f"no drift, EMA of rate {RATE:g}", xlabel=x, ylabel=y)
    line.set(title=f"drift {DRIFT:g} σ per step, EMA of the best rate", xlabel=x, ylabel=y)
    q = column(rows, "q")
    fine = np.geomspace(VISITS[-1], 1.0, 60)
    floor = column(rows, "F")[0]
    plots.curve(rest, 0, fine.tolist(), [floor] * fine.size, "F: independent visits (T10, exact)")
    worst = np.asarray(bounds.asynchronous_mse(RATE, fine, 1.0, 0.0))
    plots.curve(rest, 1, fine.tolist(), worst.tolist(), "F/q: visits selected by the error (T12)")
    plots.dots(rest, 0, q, column(rows, "coin"), column(rows, "coin ±"), "independent, simulated")
    plots.dots(
        rest, 1, q, column(rows, "selective"), column(rows, "selective ±"), "selective, with rare shocks, simulated"
    )
    best = np.asarray(bounds.asynchronous_best_mse(fine, 1.0, DRIFT, adaptive=False))
    plots.curve(line, 0, fine.tolist(), best.tolist(), "best EMA (T10, exact)")
    plots.dots(line, 0, q, column(rows, "line"), column(rows, "line ±"), "simulated")
    line.plot(q, column(rows, "linear limit"), color=plots.INK, lw=1, label="no linear tracker certifies less (T18)")
    for panel in (rest, line):
        panel.set(xscale="log", yscale="log")


PICTURE = Picture(
    "Rare visits do not add noise, they add drift",
    "With independent visits the noise is F = σ²b/(2−b), however rare they are: the average of the last visits is as "
    "accurate as before, only older. The error grows to F/q only if large errors themselves prevent visits. Rare "
    "visits do cost accuracy through drift: D/q between two visits, and an error that grows as q to the power −2/3.",
    measure,
    paint,
    panels=2,
)
