"""A tracker whose estimates decide the visits estimates too low."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aria import plots
from aria.allocators import Softmax
from aria.trackers import EMA
from theory import bounds
from theory.figures.base import Picture, Rows, column, replicas, time_mean
from theory.regimes import Allocated, Gaussian, Regime
from theory.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

RATE = 0.2
SIGMA = 0.5
"""Noise, in units of the level of both regions."""
FLOOR = 0.2
TEMPERATURES = (4.0, 1.0, 0.5, 0.33, 0.25)
STEPS, BURN = 600, 200


def measure(seed: int, size: float) -> Rows:
    """Mean error of two equal regions of level 1 without drift, visited according to a softmax of their estimates."""
    rows = []
    for temperature in TEMPERATURES:
        # q = floor/2 + (1-floor)/(1 + exp((m' - m)/T)): at m = m' it is 1/2 and its slope (1-floor)/(4T)
        slope = (1 - FLOOR) / (2 * temperature)
        visits = Allocated(Softmax(temperature, scale=1.0), floor=FLOOR)
        regime = Regime(noise=Gaussian(SIGMA), visits=visits, level=(1.0, 1.0))
        row = {"d ln q/dμ": slope, "first order": float(bounds.selection_bias(RATE, SIGMA, slope))}
        for name, tracker in (("ema", EMA(RATE)), ("importance", EMA(RATE / 2, importance=True))):
            found = simulate(
                tracker, regime, steps=STEPS, burn=BURN, replicas=replicas(1500, size),
                record=("sums", "weighted"), seed=seed,
            )  # fmt: skip
            band = time_mean(found, "sum e")
            row |= {name: band.value, f"{name} ±": band.half}
            if name == "ema":
                row["weighted by visits"] = float(found["sum q e"].sum() / found["sum q"].sum())
        rows.append(row)
    return rows


def paint(rows: Rows, panels: Sequence[Axes]) -> None:
    """Mean error (% of the level) as a function of how strongly visits depend on estimates."""
    (panel,) = panels
    panel.set(
        title=f"Two equal regions without drift, noise {SIGMA:g} of their level",
        xlabel="how visits follow the estimate, d ln q/dμ (1/level)",
        ylabel="mean error (% of the level)",
    )
    x = column(rows, "d ln q/dμ")

    def percent(name: str) -> list[float]:
        return [100 * value for value in column(rows, name)]

    panel.axhline(0.0, color=plots.INK, lw=0.8)
    plots.curve(panel, 0, [0.0, *x], [0.0, *percent("first order")], "first order: −F d ln q/dμ (T13)")
    plots.dots(panel, 0, x, percent("ema"), percent("ema ±"), f"ema(rate={RATE:g}), mean over time")
    plots.dots(panel, 1, x, percent("weighted by visits"), [0.0] * len(x), "the same, weighted by visits")
    label = f"ema(rate={RATE / 2:g}, importance=True), mean over time"
    plots.dots(panel, 2, x, percent("importance"), percent("importance ±"), label)


PICTURE = Picture(
    "Selective visits bias estimates low",
    "An allocator that prefers large estimates returns late to regions whose estimate is too low by chance, so low "
    "estimates last longer than high ones. Averaged over time the estimate is too low; averaged over visits, or with "
    "residual importance weights (T14), it is not.",
    measure,
    paint,
)
