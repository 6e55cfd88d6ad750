"""The charts of a comparison's page: curves over the steps, and frequent against rare conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aria import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Result = Mapping[str, Any]
LONGEST = 24
"""Letters of an arm's name in a chart."""


def curves(result: Result) -> plots.Chart:
    """The generation gap over the steps, uniform and unseen where there is such a group, one line for each arm."""
    groups = [group for group in ("uniform", "unseen") if group in result["groups"]]

    def paint(panels: Sequence[Axes]) -> None:
        for panel, group in zip(panels, groups, strict=True):
            _curves(panel, result, group)

    return plots.Chart(paint, panels=len(groups))


def pareto(result: Result) -> plots.Chart:
    """The change of the tail's gap against the change of the head's, one point for each arm."""
    return plots.Chart(lambda panels: _pareto(panels[0], result), height=4.4)


def both(result: Result) -> plots.Chart:
    """Curves and points side by side, for a file of their own."""

    def paint(panels: Sequence[Axes]) -> None:
        _curves(panels[0], result, "uniform")
        for panel in panels[1:]:
            _pareto(panel, result)

    return plots.Chart(paint, panels=2 if has_ends(result) else 1, height=4.4)


def has_ends(result: Result) -> bool:
    """Whether the task has a head and a tail."""
    return {"head", "tail"} <= set(result["groups"])


def relative_curves(result: Result, group: str) -> dict[str, tuple[list[int], Any, Any]]:
    """For each arm: steps, and mean and standard error over seeds of the gap divided by the baseline's final gap.

    Worlds of different seeds differ more than arms do; divided by a number of the same seed they can be averaged.
    """
    last = max(row["step"] for row in result["records"])
    gap = {
        (row["arm"], row["seed"], row["step"]): row["value"]
        for row in result["records"]
        if row["metric"] == "gap" and row["group"] == group
    }
    steps, seeds = sorted({step for _, _, step in gap}), result["seeds"]
    relative = {}
    for arm in (row["arm"] for row in result["table"]):
        values = [[gap[arm, seed, step] / gap[result["baseline"], seed, last] for step in steps] for seed in seeds]
        mean = np.mean(values, 0)
        error = np.std(values, 0, ddof=1) / len(seeds) ** 0.5 if len(seeds) > 1 else np.zeros_like(mean)
        relative[arm] = (steps, mean, error)
    return relative


def looks(result: Result) -> dict[str, plots.Look]:
    """A look for each arm; the baseline has the colour of the text."""
    others = [row["arm"] for row in result["table"] if row["arm"] != result["baseline"]]
    return {arm: plots.look(index) for index, arm in enumerate(others)} | {result["baseline"]: plots.REFERENCE}


def _curves(panel: Axes, result: Result, group: str) -> None:
    panel.axhline(1, color=plots.INK, lw=0.8, ls=":")
    for arm, (steps, mean, error) in relative_curves(result, group).items():
        colour, stroke, marker = looks(result)[arm]
        panel.plot(steps, mean, color=colour, ls=stroke, lw=1.6, marker=marker, ms=3, label=short_name(arm))
        panel.fill_between(steps, mean - error, mean + error, color=colour, alpha=0.1, lw=0)
    panel.set(title=group, ylabel=f"generation gap / final gap of {short_name(result['baseline'])}", yscale="log")
    plots.over_steps(panel)


def _pareto(panel: Axes, result: Result) -> None:
    panel.axhline(0, color=plots.INK, lw=0.8, ls=":")
    panel.axvline(0, color=plots.INK, lw=0.8, ls=":")
    points = []
    for row in result["table"]:
        (x, dx), (y, dy) = ((row[f"gap.{group}"]["mean"], row[f"gap.{group}"]["error"]) for group in ("head", "tail"))
        look = looks(result)[row["arm"]]
        panel.errorbar(
            [x], [y], xerr=[dx or 0.0], yerr=[dy or 0.0], fmt=look.marker, color=look.colour, ms=6, elinewidth=1
        )
        points.append((short_name(row["arm"]), (x, y), look))
    panel.set(xlabel="head: change of the generation gap (%)", ylabel="tail: change of the generation gap (%)")
    panel.margins(0.15)
    plots.name_points(panel, points)


def short_name(arm: str) -> str:
    """An arm's name in a chart: of a long one its end, where files' paths differ."""
    return plots.words(arm, LONGEST, keep_end=True)
