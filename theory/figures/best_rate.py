"""The best rate as a function of drift."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from aria import plots
from aria.trackers import EMA
from theory import bounds
from theory.exact_samples import synchronous
from theory.figures.base import Picture, Rows, column, replicas
from theory.regimes import Linear, Regime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

DRIFTS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
RATES = tuple(2.0 ** (-i / 8) for i in range(64))
"""Rates, 9 % apart; those within a factor 2 of the best one are tried."""


def measure(seed: int, size: float) -> Rows:
    """The best rates according to theory, and the best of a grid of simulated EMAs on a line."""
    return [
        {
            "D/σ": drift,
            "fixed path": float(bounds.ema_best_rate(1.0, drift, adaptive=False)),
            "simulated": _best_of_grid(drift, replicas(20_000, size), seed),
            "closed loop": float(bounds.ema_best_rate(1.0, drift)),
            "certificate gain": float(bounds.certificate_gain_rate(1.0, drift)),
            "Kalman, τ = D": float(bounds.kalman_steady(1.0, drift).gain),
            "(2D/σ)^(2/3)": float(bounds.ema_small_drift_rate(1.0, drift)),
        }
        for drift in DRIFTS
    ]


def _best_of_grid(drift: float, count: int, seed: int) -> float:
    best = float(bounds.ema_best_rate(1.0, drift, adaptive=False))
    error = math.inf
    found = math.nan
    for rate in (rate for rate in RATES if best / 2 < rate < best * 2):
        drawn = synchronous(EMA(rate), Regime(Linear(drift)), steps=int(12 / rate) + 10, replicas=count, seed=seed)
        if float((drawn**2).mean()) < error:
            error, found = float((drawn**2).mean()), rate
    return found


def paint(rows: Rows, panels: Sequence[Axes]) -> None:
    """Rate by drift."""
    (panel,) = panels
    panel.set(title="The best rate of an EMA", xlabel="drift per step over noise, D/σ", ylabel="rate b")
    fine = np.geomspace(1e-3, 2.0, 120)
    for index, (label, rate) in enumerate(
        (
            ("best for a fixed path (T4)", bounds.ema_best_rate(1.0, fine, adaptive=False)),
            ("best for a closed loop (T4)", bounds.ema_best_rate(1.0, fine)),
            ("where certificate_gain settles (T8)", bounds.certificate_gain_rate(1.0, fine)),
            ("where kalman settles with τ = D (T7)", bounds.kalman_steady(1.0, fine).gain),
        )
    ):
        plots.curve(panel, index, fine.tolist(), np.asarray(rate).tolist(), label)
    panel.plot(fine, bounds.ema_small_drift_rate(1.0, fine), color=plots.INK, lw=0.8, label="(2D/σ)^(2/3)")
    label = "best of simulated EMAs on a line (grid of 9 %)"
    plots.dots(panel, 0, column(rows, "D/σ"), column(rows, "simulated"), [0.0] * len(rows), label)
    panel.set(xscale="log", yscale="log", ylim=(1e-3, 1.2))


PICTURE = Picture(
    "The best rate by drift",
    "For small drift the best rate is (2D/σ)^(2/3), whether or not the drift may react; the certificate-gain "
    "tracker finds it from its own certificate. A Kalman filter that assumes a random walk with steps of size D uses "
    "a rate of about D/σ, far too small for a drift that keeps its direction.",
    measure,
    paint,
)
