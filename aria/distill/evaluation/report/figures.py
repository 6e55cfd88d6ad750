"""The charts of a run's page. Heat maps have the colour maps cividis and PuOr, which the colour-blind can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aria import plots
from aria.distill.evaluation.report.record import Array, Region, Seen
from aria.text import shown as safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 24
"""Regions in a heat map."""
PROMPTS = 5
"""Prompts with a curve of their own."""
FAR = 1e12
"""The largest ratio that is drawn as it is; of two logarithms farther apart a scale has no ticks."""
HEAT = ("Probability of a region", "Discrepancy of a region")
COVERAGE = ("Share of the samples", "Regions seen")
"""Titles of the panels, by which the captions refer to them."""


def losses(rows: Sequence[Mapping[str, Any]], terms: Sequence[str]) -> plots.Chart:
    """One panel for each term: what was logged, and its running mean."""
    step = np.array([row["step"] for row in rows], dtype=np.float64)

    def paint(panels: Sequence[Axes]) -> None:
        for index, (panel, name) in enumerate(zip(panels, terms, strict=True)):
            value, colour = _finite([row[name] for row in rows]), plots.look(index).colour
            panel.plot(step, value, color=colour, alpha=0.35, lw=1, marker="o" if len(step) == 1 else "")
            panel.plot(step, running_mean(value, max(1, len(value) // 20)), color=colour, lw=2)
            panel.set(title=plots.words(safe(name), 40), ylabel="mean loss of a sample (no unit)")
            plots.over_steps(panel)
            if bool((value[~np.isnan(value)] > 0).all()):
                panel.set_yscale("log")

    return plots.Chart(paint, panels=len(terms))


def _finite(values: Sequence[float]) -> Array:
    """Numbers to draw: what is infinite is as unknown as what is not a number."""
    found = np.array(values, dtype=np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def running_mean(value: Array, width: int) -> Array:
    """(T,) mean of each value and up to ``width − 1`` before it, of those that are known; NaN where none is.

    >>> running_mean(np.array([1.0, 3.0, 5.0]), 2).tolist(), running_mean(np.array([1.0, np.nan, 5.0]), 2).tolist()
    ([1.0, 2.0, 4.0], [1.0, 1.0, 5.0])
    """
    known = ~np.isnan(value)
    total, count = (np.concatenate([[0.0], part.cumsum()]) for part in (np.where(known, value, 0.0), known))
    last = np.arange(1, len(value) + 1)
    first = np.maximum(last - width, 0)
    seen = count[last] - count[first]
    return np.asarray(np.divide(total[last] - total[first], seen, out=np.full(len(value), np.nan), where=seen > 0))


def gaps(rows: Sequence[Mapping[str, Any]]) -> plots.Chart:
    """The generation gap over the run: overall, and of each of the first prompts."""
    step = [row["step"] for row in rows]

    def paint(panels: Sequence[Axes]) -> None:
        (panel,) = panels
        known = [{one["prompt"]: one["gap"] for one in row["prompts"]} for row in rows]
        for place, prompt in enumerate(list(known[-1])[:PROMPTS]):  # a resumed run may have other prompts than before
            value, (colour, stroke, _) = _finite([row.get(prompt, np.nan) for row in known]), plots.look(place + 1)
            panel.plot(step, value, color=colour, ls=stroke, lw=1.2, marker=".", label=plots.words(safe(prompt), 40))
        overall = _finite([row["gap"] for row in rows])
        panel.plot(step, overall, color=plots.look(0).colour, lw=2.5, marker="o", ms=4, label="all prompts")
        panel.set(ylabel="generation gap (squared latent units)")
        plots.over_steps(panel)
        panel.set_ylim(bottom=0)

    return plots.Chart(paint)


def speed(rows: Sequence[Mapping[str, Any]]) -> plots.Chart:
    """Steps per second, as the log counts them: since the run was last started."""

    def paint(panels: Sequence[Axes]) -> None:
        (panel,) = panels
        rate = [row["steps_per_second"] for row in rows]
        panel.plot([row["step"] for row in rows], rate, color=plots.look(0).colour, marker=".")
        panel.set(ylabel="steps per second")
        plots.over_steps(panel)
        panel.set_ylim(bottom=0)

    return plots.Chart(paint, height=2.4)


def most_and_least(ratio: Array) -> list[int]:
    """The regions that a heat map shows: all of them, or those most and least drawn relative to their share."""
    order = np.argsort(-ratio, kind="stable").tolist()
    return order if len(order) <= SHOWN else [*order[: SHOWN // 2], *order[-SHOWN // 2 :]]


def heat(seen: Seen, regions: Sequence[Region], shown: Sequence[int]) -> plots.Chart:
    """Two heat maps over the run, a row for each region: draws relative to its share of the pool, and discrepancy."""
    mass = np.array([region.mass for region in regions])
    drawn = (seen.q > 0) & (mass > 0)
    ratio = np.divide(seen.q, mass, out=np.full_like(seen.q, np.nan), where=drawn)[:, list(shown)].T
    ratio = ratio.clip(1 / FAR, FAR)
    mean = seen.mean[:, list(shown)].T
    labels = [plots.words(regions[k].label, 26) for k in shown]

    def paint(panels: Sequence[Axes]) -> None:
        from matplotlib.colors import LogNorm, Normalize

        most = max(2.0, float(np.nanmax(np.maximum(ratio, 1 / ratio), initial=1.0)))
        low, high = (float(np.nanmin(mean)), float(np.nanmax(mean))) if np.isfinite(mean).any() else (0.0, 1.0)
        norm = LogNorm(low, high) if 0 < low < high else Normalize(low, high if high > low else low + 1)
        _heat(panels[0], seen, ratio, "PuOr_r", LogNorm(1 / most, most), "probability / share of the pool")
        _heat(panels[1], seen, mean, "cividis", norm, "mean discrepancy of a sample (no unit)")
        for panel, title in zip(panels, HEAT, strict=True):
            panel.set(title=title, ylabel="region")
            panel.set_yticks(range(len(shown)), labels)
            if len(shown) < len(regions):
                panel.axhline(len(shown) / 2 - 0.5, color=plots.INK, lw=1.5)

    return plots.Chart(paint, panels=2, height=1.4 + 0.24 * len(shown))


def coverage(seen: Seen, regions: Sequence[Region]) -> plots.Chart:
    """Share of the samples against share of the pool, and how many regions have been seen."""

    def paint(panels: Sequence[Axes]) -> None:
        _shares(panels[0], seen, np.array([region.mass for region in regions]))
        _visited(panels[1], seen, len(regions))
        for panel, title in zip(panels, COVERAGE, strict=True):
            panel.set_title(title)

    return plots.Chart(paint, panels=2)


def _shares(panel: Axes, seen: Seen, mass: Array) -> None:
    share = seen.samples / seen.samples.sum()
    both = (mass > 1 / FAR) & (share > 1 / FAR)
    held = np.concatenate([mass[both], share[both], [1 / len(mass)]])
    ends = (float(held.min()) / 1.3, float(held.max()) * 1.3)
    panel.plot(ends, ends, color=plots.INK, lw=1, ls="--", label="as in the pool")
    panel.plot(mass[both], share[both], "o", color=plots.look(0).colour, ms=5, alpha=0.7, label="a region")
    panel.set(xlabel="share of the pool", ylabel="share of the samples")
    panel.set(xscale="log", yscale="log", xlim=ends, ylim=ends)


def _visited(panel: Axes, seen: Seen, count: int) -> None:
    panel.step(seen.step[1:], seen.visited(), where="post", color=plots.look(1).colour, lw=2, label="seen so far")
    panel.axhline(count, color=plots.INK, lw=1, ls="--", label="all regions")
    panel.set(ylabel="number of regions", ylim=(0, 1.1 * count), xlim=(0, seen.step[-1]))
    plots.over_steps(panel)
    plots.whole_numbers(panel.yaxis)


def _heat(panel: Axes, seen: Seen, values: Array, colours: str, norm: Any, label: str) -> None:
    """(R, T) values as coloured cells over the steps of the run; what was not seen is grey."""
    import matplotlib

    ends = (seen.step[0], seen.step[-1], len(values) - 0.5, -0.5)
    width = np.diff(seen.step)
    across = np.linspace(ends[0], ends[1], min(480, 4 * len(width)), endpoint=False)
    even = np.searchsorted(seen.step, across, side="right") - 1
    maps: Any = matplotlib.colormaps
    shown = maps[colours].with_extremes(bad=(0.5, 0.5, 0.5, 0.3))
    drawn = panel.imshow(values[:, even], aspect="auto", interpolation="none", extent=ends, cmap=shown, norm=norm)
    panel.grid(visible=False)
    plots.over_steps(panel)
    plots.colour_bar(panel, drawn, label)
