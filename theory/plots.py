"""Figures of the commands. Colours are those of Okabe and Ito, which the colour-blind can tell apart."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from theory.assumptions import Array

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK = "#000000"
PAGE = {INK: "currentColor", "#0072b2": "var(--blue)"}
"""What takes its colour from the page where a figure is part of one: ink, and the blue that is dim on a dark page."""


@contextmanager
def axes(path: str, title: str, x: str, y: str) -> Iterator[Axes]:
    """Axes to draw on, written to ``path`` at the end."""
    figure, (drawn,) = panels((title, x, y))
    yield drawn
    legends(figure)
    figure.savefig(path, dpi=150)


def panels(*labels: tuple[str, str, str]) -> tuple[Figure, list[Axes]]:
    """A figure with one panel, or two side by side, for each (title, label of x, label of y)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5) if len(labels) == 1 else (5.2 * len(labels), 4.5), layout="constrained")
    drawn = [figure.add_subplot(1, len(labels), i + 1) for i in range(len(labels))]
    for panel, (title, x, y) in zip(drawn, labels, strict=True):
        panel.set(title=title, xlabel=x, ylabel=y)
        panel.grid(color=INK, alpha=0.12, lw=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, drawn


def legends(figure: Figure) -> Figure:
    """Adds a legend to each panel that has anything to name."""
    for panel in figure.axes:
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize="small", frameon=False)
    return figure


def write_svg(figure: Figure, path: str, name: str) -> None:
    """Writes a figure on white paper to an SVG file of its own, the same bytes each time."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(_svg(figure, name, transparent=False))


def inline_svg(figure: Figure, name: str) -> str:
    """An ``<svg>`` element for a page, which colours it as :data:`PAGE` says; its ids begin with ``name``."""
    drawn = _svg(figure, name, transparent=True)
    drawn = drawn[drawn.index("<svg") :]
    for here, there in PAGE.items():
        drawn = drawn.replace(here, there)
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", drawn)


def _svg(figure: Figure, name: str, transparent: bool) -> str:
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):  # text stays text; ids are those of the name
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=transparent)
    return buffer.getvalue()


def colour(index: int) -> str:
    """The colour of the ``index``-th line."""
    return COLOURS[index % len(COLOURS)]


def style(index: int) -> str:
    """Its line style, so that it is told apart without colours too."""
    return STYLES[index % len(STYLES)]


def curve(panel: Axes, index: int, x: Sequence[float], y: Sequence[float], label: str) -> None:
    """What theory says: the ``index``-th line."""
    panel.plot(x, y, style(index), color=colour(index), lw=1.6, label=label)


def dots(panel: Axes, index: int, x: Sequence[float], y: Sequence[float], half: Sequence[float], label: str) -> None:
    """What was measured, with the half-width of its interval, in the colour of the ``index``-th line."""
    panel.errorbar(
        x, y, yerr=half, fmt=MARKERS[index % len(MARKERS)], ms=4.5, color=colour(index), capsize=2.5, lw=1, label=label
    )


def trajectories(
    path: str, title: str, truths: Mapping[str, Array], estimates: Mapping[str, tuple[Array, Array | None]]
) -> None:
    """Truths, estimates and, where there is one, the half width of each estimate's band, by step."""
    with axes(path, title, "step", "discrepancy (units of the signal)") as drawn:
        for name, truth in truths.items():
            drawn.plot(np.arange(1, truth.size + 1), truth, color=INK, lw=1.5, label=name)
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
        dots(drawn, 0, values, measured[0], measured[1], "simulated, 99 % interval")
        if bound is not None:
            curve(drawn, 1, values, bound, "proved bound")
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
