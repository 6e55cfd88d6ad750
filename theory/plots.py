"""The charts that single commands write: trajectories (run), errors over a setting (sweep), a log (check-log)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from aria import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from theory.assumptions import Array

STEPS = {"xlabel": "step", "ylabel": "discrepancy (units of the signal)"}


def trajectories(
    title: str, truths: Mapping[str, Array], estimates: Mapping[str, tuple[Array, Array | None]]
) -> plots.Chart:
    """Truths, estimates and, where there is one, the half-width of each estimate's band, by step."""

    def paint(panels: Sequence[Axes]) -> None:
        (panel,) = panels
        for name, truth in truths.items():
            panel.plot(np.arange(1, truth.size + 1), truth, color=plots.INK, lw=1.5, label=name)
        for i, (name, (value, width)) in enumerate(estimates.items()):
            steps, (colour, stroke, _) = np.arange(1, value.size + 1), plots.look(i)
            panel.plot(steps, value, stroke, color=colour, lw=1, label=name)
            if width is not None:
                panel.fill_between(steps, value - width, value + width, color=colour, alpha=0.2, lw=0)
        panel.set(title=title, **STEPS)
        plots.whole_numbers(panel.xaxis)

    return plots.Chart(paint)


def errors(
    title: str,
    setting: str,
    values: Sequence[float],
    measured: tuple[Sequence[float], Sequence[float]],
    bound: Sequence[float] | None,
    optimum: float | None,
) -> plots.Chart:
    """Mean squared error with its confidence interval against a setting, and the theoretical curve and optimum."""

    def paint(panels: Sequence[Axes]) -> None:
        (panel,) = panels
        plots.dots(panel, 0, values, measured[0], measured[1], "simulated, 99 % interval")
        if bound is not None:
            plots.curve(panel, 1, values, bound, "proved bound")
        if optimum is not None:
            panel.axvline(optimum, color=plots.look(2).colour, ls=":", label=f"theoretical optimum {optimum:.4g}")
        panel.set(title=title, xlabel=setting, ylabel="mean squared error (squared units of the signal)")
        panel.set(xscale="log", yscale="log")

    return plots.Chart(paint)


def log_readings(
    title: str, seen: Mapping[int, tuple[Array, Array]], estimates: Mapping[int, tuple[Array, Array]]
) -> plots.Chart:
    """Visits of each region as dots and the tracker's estimates as lines, by step."""

    def paint(panels: Sequence[Axes]) -> None:
        (panel,) = panels
        for i, (region, (step, mean)) in enumerate(seen.items()):
            panel.plot(step, mean, ".", ms=2, alpha=0.4, color=plots.look(i).colour, label=f"region {region}")
        for i, (step, value) in enumerate(estimates.values()):
            panel.plot(step, value, plots.look(i).stroke, color=plots.look(i).colour, lw=1.5)
        panel.set(title=title, **STEPS)
        plots.whole_numbers(panel.xaxis)

    return plots.Chart(paint)
