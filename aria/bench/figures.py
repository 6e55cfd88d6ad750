"""The figures of a comparison's page: curves over the steps, and what the rare conditions' gain costs the frequent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from aria.distill.report.figures import COLOURS, INK, STROKES, over_steps, panels_of, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Result = Mapping[str, Any]
MARKERS = ("o", "s", "D", "^")
"""The points of arms whose lines have the strokes of the same place."""


def curves(result: Result) -> str:
    """The generation gap over the steps, uniform and unseen where there is such a group, an arm a line."""
    groups = [group for group in ("uniform", "unseen") if group in result["groups"]]
    figure, panels = panels_of(len(groups), height=4.6)
    for panel, group in zip(panels, groups):
        _curves(panel, result, group)
    panels[-1].legend(fontsize="small", frameon=False)
    return svg_of(figure, "curves")


def pareto(result: Result) -> str:
    """The change of the tail's gap against the change of the head's, an arm a point."""
    figure, (panel,) = panels_of(1, height=5.0)
    _pareto(panel, result)
    return svg_of(figure, "pareto")


def both(result: Result) -> Figure:
    """Curves and points beside each other, for a file of their own."""
    figure, panels = panels_of(2 if has_ends(result) else 1, height=4.6)
    _curves(panels[0], result, "uniform")
    panels[0].legend(fontsize="small", frameon=False)
    if has_ends(result):
        _pareto(panels[1], result)
    return figure


def has_ends(result: Result) -> bool:
    """Whether the task has a head and a tail."""
    return {"head", "tail"} <= set(result["groups"])


def relative_curves(result: Result, group: str) -> dict[str, tuple[list[int], Any, Any]]:
    """By arm: steps, mean over seeds and its standard error of the gap over that of the baseline's end, seed by seed.

    Worlds of different seeds differ more than arms do; divided by a number of the seed's own they can be averaged.
    """
    last = max(row["step"] for row in result["records"])
    gap = {
        (row["arm"], row["seed"], row["step"]): row["value"]
        for row in result["records"]
        if row["metric"] == "gap" and row["group"] == group
    }
    steps, seeds = sorted({step for _, _, step in gap}), result["seeds"]
    told = {}
    for arm in (arm["name"] for arm in result["arms"]):
        values = [[gap[arm, seed, step] / gap[result["baseline"], seed, last] for step in steps] for seed in seeds]
        mean = np.mean(values, 0)
        error = np.std(values, 0, ddof=1) / len(seeds) ** 0.5 if len(seeds) > 1 else np.zeros_like(mean)
        told[arm] = (steps, mean, error)
    return told


def _curves(panel: Axes, result: Result, group: str) -> None:
    looks = _looks(result)
    panel.axhline(1, color=INK, lw=0.8, ls=":")
    for arm, (steps, mean, error) in relative_curves(result, group).items():
        colour, stroke = looks[arm]
        panel.plot(steps, mean, color=colour, ls=stroke, lw=1.6, marker=".", ms=4, label=arm)
        panel.fill_between(steps, mean - error, mean + error, color=colour, alpha=0.15, lw=0)
    panel.set(title=group, ylabel=f"generation gap / that of {result['baseline']} at the end", yscale="log")
    _few_numbers(panel)
    over_steps(panel)


def _pareto(panel: Axes, result: Result) -> None:
    looks = _looks(result)
    panel.axhline(0, color=INK, lw=0.8, ls=":")
    panel.axvline(0, color=INK, lw=0.8, ls=":")
    for row in result["table"]:
        (x, dx), (y, dy) = ((row[f"gap.{group}"]["mean"], row[f"gap.{group}"]["error"]) for group in ("head", "tail"))
        colour, stroke = looks[row["arm"]]
        point = MARKERS[STROKES.index(stroke)]
        panel.errorbar([x], [y], xerr=[dx or 0.0], yerr=[dy or 0.0], fmt=point, color=colour, ms=6, elinewidth=1)
        panel.annotate(row["arm"], (x, y), xytext=(6, 5), textcoords="offset points", fontsize="small", color=INK)
    panel.set(xlabel="head: change of the generation gap, %", ylabel="tail: change of the generation gap, %")
    panel.margins(0.15)


def _looks(result: Result) -> dict[str, tuple[str, str]]:
    """A colour and a stroke for each arm; the baseline has the page's ink."""
    others = [arm["name"] for arm in result["arms"] if arm["name"] != result["baseline"]]
    looks = {
        name: (COLOURS[place % len(COLOURS)], STROKES[place // len(COLOURS) % len(STROKES)])
        for place, name in enumerate(others)
    }
    return {**looks, result["baseline"]: (INK, "-")}


def _few_numbers(panel: Axes) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    low, high = panel.get_ylim()
    ticks = [tick for tick in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1, 1.25, 1.5, 2, 3, 5, 10) if low <= tick <= high]
    panel.yaxis.set_major_locator(FixedLocator(ticks))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda tick, place: f"{tick:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def write(result: Result, path: Any) -> None:
    """Curves and points as a file of the kind its ending says."""
    both(result).savefig(path, dpi=150)
