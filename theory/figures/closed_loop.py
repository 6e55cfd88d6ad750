"""Drift that reacts to the estimate exceeds the bound for drift that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aria import plots
from aria.trackers import EMA
from theory import bounds
from theory.figures.base import ALARM, Picture, Rows, column, replicas
from theory.regimes import Gaussian, Linear, Regime, SignAdversary, TwoPoint
from theory.simulate import simulate
from theory.verdict import mean_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

RATE = 0.1
STEPS = 200
DRIFTS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16)


def measure(seed: int, size: float) -> Rows:
    """Mean squared error of one EMA at several drifts, in units of the textbook bound, in noise of variance 1."""
    rows = []
    for drift in DRIFTS:
        textbook = float(bounds.ema_mse(RATE, 1.0, drift, adaptive=False))
        row = {"D/σ": drift, "adaptive bound": float(bounds.ema_mse(RATE, 1.0, drift)) / textbook}
        for name, regime, count in (
            ("steady drift", Regime(Linear(drift)), 20_000),
            ("against the error", Regime(SignAdversary(drift), Gaussian()), 20_000),
            ("worst case", Regime(SignAdversary(drift), TwoPoint(rate=RATE)), 1000),
        ):
            found = simulate(EMA(RATE), regime, steps=STEPS, replicas=replicas(count, size), seed=seed)
            band = mean_interval(found["filtering"] ** 2, ALARM).over(textbook)
            row |= {name: band.value, f"{name} ±": band.half}
        rows.append(row)
    return rows


def paint(rows: Rows, panels: Sequence[Axes]) -> None:
    """Measured over the textbook bound, by drift."""
    (panel,) = panels
    panel.set(
        title=f"EMA of rate {RATE:g} in a closed loop",
        xlabel="drift per step over noise, D/σ",
        ylabel="mean squared error / textbook bound",
    )
    fine = np.geomspace(DRIFTS[0], DRIFTS[-1], 60)
    price = bounds.price_of_adaptivity(RATE, 1.0, fine)
    panel.axhline(1.0, color=plots.INK, lw=1, label="textbook bound (T3-O)")
    plots.curve(panel, 1, fine.tolist(), np.asarray(price).tolist(), "bound for a closed loop (T3-A)")
    panel.axhline(bounds.PRICE_OF_ADAPTIVITY, color=plots.INK, lw=1, ls=":", label="4/3: the most it can be")
    for index, name in ((1, "worst case"), (2, "against the error"), (0, "steady drift")):
        label = {
            "worst case": "drift against the error, two-point noise",
            "against the error": "drift against the error, normal noise",
        }.get(name, name)
        plots.dots(panel, index, column(rows, "D/σ"), column(rows, name), column(rows, f"{name} ±"), label)
    panel.set(xscale="log", ylim=(0.9, 1.55))


PICTURE = Picture(
    "A closed loop breaks the textbook bound",
    "The textbook bound D²a²/b² + σ²b/(2−b) is exact if the path of the target is fixed in advance. If the drift "
    "may depend on the estimate, as when a tracker steers training, it is exceeded by up to a third, attained here "
    "by drift that always moves away from the estimate, with two-valued noise. T3-A is the bound that holds.",
    measure,
    paint,
)
