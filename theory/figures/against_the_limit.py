"""The error of each tracker divided by the smallest that any linear tracker can certify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aria import plots
from aria.trackers import Bank
from theory import bounds, limits
from theory.figures.base import Picture, Rows, column, replicas, time_mean
from theory.regimes import Linear, Regime, SignAdversary
from theory.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

DRIFTS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
STEPS, BURN = 1200, 600
COURSES = ("fixed in advance", "reacting to the estimate")
CERTIFIED = ("best EMA", "best window", "certificate_gain", "kalman, τ = D")


def measure(seed: int, size: float) -> Rows:
    """Multiples of R_A: certified worst cases, the measured error of the bank, and the limit for any tracker."""
    return [_row(drift, closed, seed, size) for closed in (False, True) for drift in DRIFTS]


def _row(drift: float, closed: bool, seed: int, size: float) -> dict[str, Any]:
    limit = float(limits.linear_limit(1.0, drift))
    gain = bounds.kalman_steady(1.0, drift).gain
    certified = (
        bounds.ema_best_mse(1.0, drift, adaptive=closed),
        bounds.window_best_mse(1.0, drift, adaptive=closed),
        bounds.certificate_gain_mse(1.0, drift, adaptive=closed),
        bounds.ema_mse(gain, 1.0, drift, adaptive=closed),
    )
    regime = Regime(SignAdversary(drift) if closed else Linear(drift))
    found = simulate(Bank(), regime, steps=STEPS, burn=BURN, replicas=replicas(200, size), record=("sums",), seed=seed)
    bank = time_mean(found, "sum e²").over(limit)
    return {
        "drift": COURSES[closed],
        "D/σ": drift,
        "R_A/σ²": limit,
        **{name: float(value) / limit for name, value in zip(CERTIFIED, certified, strict=True)},
        "bank, measured": bank.value,
        "bank, measured ±": bank.half,
        "no tracker below": float(limits.minimax_lower_bound(1.0, drift)) / limit,
    }


def paint(rows: Rows, panels: Sequence[Axes]) -> None:
    """One panel for paths fixed in advance, one for drift that reacts."""
    x = "drift per step over noise, D/σ"
    for closed, panel in enumerate(panels):
        here = [row for row in rows if row["drift"] == COURSES[closed]]
        drift = column(here, "D/σ")
        panel.axhline(1.0, color=plots.INK, lw=1, label="best linear tracker on fixed paths (R_A)")
        for index, name in enumerate(CERTIFIED):
            plots.curve(panel, index, drift, column(here, name), f"{name}, certified")
        shown = ("on a line", "drift against the error")[closed]
        plots.dots(
            panel,
            4,
            drift,
            column(here, "bank, measured"),
            column(here, "bank, measured ±"),
            f"bank, measured: {shown}",
        )
        panel.plot(drift, column(here, "no tracker below"), color=plots.INK, lw=1, ls=":", label="no tracker is below")
        panel.set(title=f"drift {COURSES[closed]}", xlabel=x, ylabel="mean squared error / R_A")
        panel.set(xscale="log", yscale="log", ylim=(0.6, 60))
        panel.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])


PICTURE = Picture(
    "How far each tracker is from the limit",
    "R_A is the smallest worst-case error that any linear tracker can certify (T15-lin). At their best settings the "
    "EMA, the window and certificate_gain are within 14 % of it on paths fixed in advance; drift that reacts costs "
    "more (the window's bound for it, T1-A, is not known to be attained). The bank needs neither noise nor drift and "
    "has no certificate: its dots are measured, for one drift each, and can be below the worst case.",
    measure,
    paint,
    panels=2,
)
