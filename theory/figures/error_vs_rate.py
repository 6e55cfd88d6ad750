"""Error of an average as a function of its rate: a small rate lags, a large rate is noisy; the best is between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aria import plots
from aria.trackers import EMA
from theory import bounds, limits
from theory.exact_samples import synchronous
from theory.figures.base import ALARM, Picture, Rows, column, replicas
from theory.regimes import Linear, Regime, SignAdversary, TwoPoint
from theory.simulate import simulate
from theory.verdict import mean_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

DRIFT = 0.05
RATES = tuple(float(rate) for rate in np.geomspace(0.04, 0.9, 13))


def measure(seed: int, size: float) -> Rows:
    """Mean squared error of the EMA at drift 0.05 per step and noise of variance 1, with the proved bounds."""
    rows = []
    for rate in RATES:
        steps = int(12 / rate) + 10
        worst = Regime(SignAdversary(DRIFT), TwoPoint(rate=rate))
        line = mean_interval(
            synchronous(EMA(rate), Regime(Linear(DRIFT)), steps=steps, replicas=replicas(20_000, size), seed=seed) ** 2,
            ALARM,
        )
        loop = mean_interval(
            simulate(EMA(rate), worst, steps=steps, replicas=replicas(1000, size), seed=seed)["filtering"] ** 2, ALARM
        )
        rows.append(
            {
                "rate": rate,
                "steady drift": line.value,
                "steady drift ±": line.half,
                "bound, fixed path": float(bounds.ema_mse(rate, 1.0, DRIFT, adaptive=False)),
                "closed loop": loop.value,
                "closed loop ±": loop.half,
                "bound, closed loop": float(bounds.ema_mse(rate, 1.0, DRIFT)),
            }
        )
    return rows


def paint(rows: Rows, panels: Sequence[Axes]) -> None:
    """Error by rate, with the best rates marked."""
    (panel,) = panels
    panel.set(title=f"EMA, drift {DRIFT:g} σ per step", xlabel="rate b of the EMA", ylabel="mean squared error (σ²)")
    fine = np.geomspace(RATES[0], RATES[-1], 120)
    for index, (name, bound, adaptive) in enumerate(
        (("steady drift", "bound, fixed path", False), ("closed loop", "bound, closed loop", True))
    ):
        exact = np.asarray(bounds.ema_mse(fine, 1.0, DRIFT, adaptive=adaptive))
        plots.curve(panel, index, fine.tolist(), exact.tolist(), bound)
        plots.dots(
            panel, index, column(rows, "rate"), column(rows, name), column(rows, f"{name} ±"), f"{name}, simulated"
        )
        best = float(bounds.ema_best_rate(1.0, DRIFT, adaptive=adaptive))
        colour = plots.look(index).colour
        panel.vlines(best, 0.1, exact.min(), color=colour, ls=":", lw=1.5, label=f"best rate {best:.3f}")
    limit = float(limits.linear_limit(1.0, DRIFT))
    panel.axhline(limit, color=plots.INK, lw=1, label="no linear tracker certifies less")
    panel.set(xscale="log", yscale="log", ylim=(0.1, 2))


PICTURE = Picture(
    "Error by rate",
    "A slow average lags behind, a fast one follows the noise. Dots are simulations of the shipped EMA with steady "
    "drift and in the worst closed loop; lines are the bounds, which both attain; dotted lines are the best rates "
    "according to T4.",
    measure,
    paint,
)
