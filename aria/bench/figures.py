"""The figures of a comparison's page: curves over the steps, and what the rare conditions' gain costs the frequent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aria import files
from aria.distill.evaluation.report.figures import COLOURS, INK, STROKES, over_steps, panels_of, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Result = Mapping[str, Any]
MARKERS = ("o", "s", "D", "^")
"""The points of arms whose lines have the strokes of the same place."""
LETTER, LINE = 6.0, 10.0
"""Width of a small letter and height of a line, in points, generously."""
LONGEST = 30
"""Letters of an arm's name in a figure."""


def curves(result: Result) -> str:
    """The generation gap over the steps, uniform and unseen where there is such a group, an arm a line."""
    groups = [group for group in ("uniform", "unseen") if group in result["groups"]]
    figure, panels = panels_of(len(groups), height=4.6)
    for panel, group in zip(panels, groups):
        _curves(panel, result, group)
    _legend(figure, panels[0])
    return svg_of(figure, "curves")


def pareto(result: Result) -> str:
    """The change of the tail's gap against the change of the head's, an arm a point."""
    figure, (panel,) = panels_of(1, height=5.0)
    _pareto(figure, panel, result)
    return svg_of(figure, "pareto")


def both(result: Result) -> Figure:
    """Curves and points beside each other, for a file of their own."""
    figure, panels = panels_of(2 if has_ends(result) else 1, height=4.6)
    _curves(panels[0], result, "uniform")
    _legend(figure, panels[0])
    if has_ends(result):
        _pareto(figure, panels[1], result)
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
    for arm in (row["arm"] for row in result["table"]):
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
        panel.plot(steps, mean, color=colour, ls=stroke, lw=1.6, marker=_marker(stroke), ms=3, label=_label(arm))
        panel.fill_between(steps, mean - error, mean + error, color=colour, alpha=0.1, lw=0)
    panel.set(title=group, ylabel=f"generation gap / that of {result['baseline']} at the end", yscale="log")
    _few_numbers(panel)
    over_steps(panel)


def _pareto(figure: Figure, panel: Axes, result: Result) -> None:
    looks = _looks(result)
    panel.axhline(0, color=INK, lw=0.8, ls=":")
    panel.axvline(0, color=INK, lw=0.8, ls=":")
    places = {}
    for row in result["table"]:
        (x, dx), (y, dy) = ((row[f"gap.{group}"]["mean"], row[f"gap.{group}"]["error"]) for group in ("head", "tail"))
        colour, stroke = looks[row["arm"]]
        panel.errorbar(
            [x], [y], xerr=[dx or 0.0], yerr=[dy or 0.0], fmt=_marker(stroke), color=colour, ms=6, elinewidth=1
        )
        places[row["arm"]] = x, y
    panel.set(xlabel="head: change of the generation gap, %", ylabel="tail: change of the generation gap, %")
    panel.margins(0.15)
    _name(figure, panel, places, {arm: colour for arm, (colour, _) in looks.items()})


def _name(figure: Figure, panel: Axes, places: Mapping[str, tuple[float, float]], colours: Mapping[str, str]) -> None:
    """Names in a column to the right of the panel, as high as their points or nearly so, with lines to them."""
    figure.draw_without_rendering()  # which lays it out: the panel is now as tall as it will be
    (low, high), apart = panel.get_ylim(), LINE * figure.dpi / 72 / panel.get_window_extent().height
    names = sorted(places, key=lambda name: places[name][1])
    heights = apart_by([(places[name][1] - low) / (high - low) for name in names], apart)
    for name, height in zip(names, heights):
        line = {"arrowstyle": "-", "color": colours[name], "alpha": 0.5, "lw": 0.6, "shrinkA": 0, "shrinkB": 4}
        panel.annotate(_label(name), places[name], xytext=(1.03, height), textcoords="axes fraction", va="center",
                       fontsize="small", color=INK, arrowprops=line | {"relpos": (0, 0.5)})  # fmt: skip


def apart_by(heights: Sequence[float], least: float) -> list[float]:
    """Rising ``heights`` in [0, 1], moved up by as little as sets each ``least`` above the one before, and down again
    where they leave the interval.

    >>> [round(height, 2) for height in apart_by([0.1, 0.1, 0.95, 0.95], 0.1)]
    [0.1, 0.2, 0.9, 1.0]
    """
    moved: list[float] = []
    for height in heights:
        moved.append(max([height, *(before + least for before in moved[-1:])]))
    highest = 1.0
    for place in reversed(range(len(moved))):
        moved[place] = min(moved[place], highest)
        highest = moved[place] - least
    return moved


def _legend(figure: Figure, panel: Axes) -> None:
    """All arms below the figure, where they hide no line, in as many columns as their names leave room for."""
    handles, labels = panel.get_legend_handles_labels()
    column = LETTER * max(map(len, labels)) + 40
    figure.legend(handles, labels, loc="outside lower center", fontsize="small", frameon=False,
                  ncols=max(1, min(5, int(72 * figure.get_figwidth() / column))))  # fmt: skip


def _label(arm: str) -> str:
    """An arm's name for a figure: of a long one its end, where files' paths differ. A dollar sign is no mathematics."""
    short = arm if len(arm) <= LONGEST else f"…{arm[1 - LONGEST :]}"
    return short.replace("$", r"\$")


def _marker(stroke: str) -> str:
    return MARKERS[STROKES.index(stroke)]


def _looks(result: Result) -> dict[str, tuple[str, str]]:
    """A colour and a stroke for each arm; the baseline has the page's ink."""
    others = [row["arm"] for row in result["table"] if row["arm"] != result["baseline"]]
    colours = COLOURS[:-1]  # the last is what the first becomes on a dark page
    looks = {
        name: (colours[place % len(colours)], STROKES[place // len(colours) % len(STROKES)])
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


def write(result: Result, path: Path) -> None:
    """Curves and points as a file of the kind its ending says."""
    with files.replacing(path) as unfinished:
        both(result).savefig(unfinished, dpi=150)
