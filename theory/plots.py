"""Figures of the commands. Colours are those of Okabe and Ito, which the colour-blind can tell apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from theory.assumptions import Array

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")


@contextmanager
def axes(path: str, title: str, x: str, y: str) -> Iterator[Axes]:
    """Axes to draw on, written to ``path`` at the end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    drawn = figure.add_subplot()
    drawn.set(title=title, xlabel=x, ylabel=y)
    yield drawn
    if drawn.get_legend_handles_labels()[0]:
        drawn.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def colour(index: int) -> str:
    """The colour of the ``index``-th line."""
    return COLOURS[index % len(COLOURS)]


def style(index: int) -> str:
    """Its line style, so that it is told apart without colours too."""
    return STYLES[index % len(STYLES)]


def trajectories(
    path: str, title: str, truths: Mapping[str, Array], estimates: Mapping[str, tuple[Array, Array | None]]
) -> None:
    """Truths, estimates and, where there is one, the half width of each estimate's band, by step."""
    with axes(path, title, "step", "discrepancy (units of the signal)") as drawn:
        for name, truth in truths.items():
            drawn.plot(np.arange(1, truth.size + 1), truth, color="black", lw=1.5, label=name)
        for i, (name, (value, width)) in enumerate(estimates.items()):
            steps = np.arange(1, value.size + 1)
            drawn.plot(steps, value, style(i), color=colour(i), lw=1, label=name)
            if width is not None:
                drawn.fill_between(steps, value - width, value + width, color=colour(i), alpha=0.2, lw=0)


def errors(
    path: str,
    title: str,
    over: str,
    values: Sequence[float],
    measured: tuple[Sequence[float], Sequence[float]],
    bound: Sequence[float] | None,
    optimum: float | None,
) -> None:
    """Mean squared error with its confidence interval against a setting, and the theoretical curve and optimum."""
    with axes(path, title, f"{over}", "mean squared error (squared units of the signal)") as drawn:
        drawn.errorbar(
            values, measured[0], yerr=measured[1], fmt="o", color=colour(0), capsize=3, label="simulated, 99 % interval"
        )
        if bound is not None:
            drawn.plot(values, bound, "--", color=colour(1), label="proved bound")
        if optimum is not None:
            drawn.axvline(optimum, color=colour(2), ls=":", label=f"theoretical optimum {optimum:.4g}")
        drawn.set(xscale="log", yscale="log")


def log_readings(
    path: str, title: str, seen: Mapping[int, tuple[Array, Array]], estimates: Mapping[int, tuple[Array, Array]]
) -> None:
    """Visits of each region as dots and the tracker's estimates as lines, by step."""
    with axes(path, title, "step", "discrepancy (units of the signal)") as drawn:
        for i, (region, (step, mean)) in enumerate(seen.items()):
            drawn.plot(step, mean, ".", ms=2, alpha=0.4, color=colour(i), label=f"region {region}")
        for i, (step, value) in enumerate(estimates.values()):
            drawn.plot(step, value, style(i), color=colour(i), lw=1.5)
