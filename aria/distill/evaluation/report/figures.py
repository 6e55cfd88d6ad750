"""The figures of a run's page, drawn by matplotlib as SVG that takes its ink from the page.

Lines have the colours of Okabe and Ito, which the colour-blind can tell apart, and different strokes; heat maps have
the scales cividis and PuOr.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aria.distill.evaluation.report.record import Array, Region, Seen

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STROKES = ("-", "--", "-.", ":")
INK = "#000000"
PAGE = {INK: "currentColor", "#0072b2": "var(--blue)"}
"""What takes its colour from the page: ink, and the blue that is dim on a dark one."""
SHOWN = 24
"""Regions in a heat map."""


def losses(rows: Sequence[Mapping[str, Any]], terms: Sequence[str]) -> str:
    """One panel for each term: what was logged, and its running mean."""
    figure, panels = panels_of(len(terms))
    step = np.array([row["step"] for row in rows], dtype=np.float64)
    for panel, name, colour in zip(panels, terms, COLOURS * len(terms)):
        value = np.array([row[name] for row in rows], dtype=np.float64)
        panel.plot(step, value, color=colour, alpha=0.35, lw=1, marker="o" if len(step) == 1 else "")
        panel.plot(step, running_mean(value, max(1, len(value) // 20)), color=colour, lw=2)
        panel.set(title=name, ylabel="mean loss of a sample (no unit)")
        over_steps(panel)
        if bool((value > 0).all()):
            panel.set_yscale("log")
            _plain(panel.yaxis, value)
    return svg_of(figure, "losses")


def running_mean(value: Array, width: int) -> Array:
    """(T,) mean of each value and up to ``width − 1`` before it.

    >>> running_mean(np.array([1.0, 3.0, 5.0]), 2).tolist()
    [1.0, 2.0, 4.0]
    """
    total = np.concatenate([[0.0], value.cumsum()])
    last = np.arange(1, len(value) + 1)
    first = np.maximum(last - width, 0)
    return np.asarray((total[last] - total[first]) / (last - first))


def gaps(rows: Sequence[Mapping[str, Any]]) -> str:
    """The generation gap over the run: overall, and of each of the first prompts."""
    figure, (panel,) = panels_of(1)
    step = [row["step"] for row in rows]
    for place, one in enumerate(rows[-1]["prompts"][: len(COLOURS) - 1], 1):
        value = [row["prompts"][place - 1]["gap"] for row in rows]
        stroke = STROKES[place % len(STROKES)]
        panel.plot(step, value, color=COLOURS[place], ls=stroke, lw=1.2, marker=".", label=_short(one["prompt"], 40))
    panel.plot(step, [row["gap"] for row in rows], color=COLOURS[0], lw=2.5, marker="o", ms=4, label="all prompts")
    panel.set(ylabel="generation gap (squared latent units)")
    over_steps(panel)
    panel.set_ylim(bottom=0)
    panel.legend(fontsize="small", frameon=False)
    return svg_of(figure, "gaps")


def speed(rows: Sequence[Mapping[str, Any]]) -> str:
    """Steps a second, as the log counts them: since the run was last started."""
    figure, (panel,) = panels_of(1, height=2.4)
    panel.plot([row["step"] for row in rows], [row["steps_per_second"] for row in rows], color=COLOURS[0], marker=".")
    panel.set(ylabel="steps a second")
    over_steps(panel)
    panel.set_ylim(bottom=0)
    return svg_of(figure, "speed")


def most_and_least(ratio: Array) -> list[int]:
    """The regions that a heat map shows: all of them, or those most and least drawn for their share."""
    order = np.argsort(-ratio, kind="stable").tolist()
    return order if len(order) <= SHOWN else [*order[: SHOWN // 2], *order[-SHOWN // 2 :]]


def heat(seen: Seen, regions: Sequence[Region], shown: Sequence[int]) -> str:
    """Two heat maps over the run, a row for each region: how it was drawn for its share, and its discrepancy."""
    import matplotlib
    from matplotlib.colors import LogNorm, Normalize

    mass = np.array([region.mass for region in regions])
    figure, (left, right) = panels_of(2, height=1.4 + 0.24 * len(shown), grid=False)
    drawn = (seen.q > 0) & (mass > 0)
    ratio = np.divide(seen.q, mass, out=np.full_like(seen.q, np.nan), where=drawn)[:, list(shown)].T
    most = max(2.0, float(np.nanmax(np.maximum(ratio, 1 / ratio), initial=1.0)))
    colours: Any = matplotlib.colormaps
    _heat(figure, left, seen, ratio, colours["PuOr_r"], LogNorm(1 / most, most), "probability / share of the pool")
    mean = seen.mean[:, list(shown)].T
    low, high = (float(np.nanmin(mean)), float(np.nanmax(mean))) if np.isfinite(mean).any() else (0.0, 1.0)
    norm = LogNorm(low, high) if 0 < low < high else Normalize(low, high if high > low else low + 1)
    _heat(figure, right, seen, mean, colours["cividis"], norm, "mean discrepancy of a sample (no unit)")
    left.set(title="how often it is drawn", ylabel="region")
    left.set_yticks(range(len(shown)), [_short(regions[k].label, 33) for k in shown], fontsize="small")
    right.set(title="student against teacher")
    right.set_yticks([])
    if len(shown) < len(regions):
        for panel in (left, right):
            panel.axhline(len(shown) / 2 - 0.5, color=INK, lw=1.5)
    return svg_of(figure, "heat")


def coverage(seen: Seen, regions: Sequence[Region]) -> str:
    """Share of the samples against share of the pool, and how many regions have been seen."""
    figure, (left, right) = panels_of(2)
    mass = np.array([region.mass for region in regions])
    share = seen.samples / seen.samples.sum()
    both = (mass > 0) & (share > 0)
    held = np.concatenate([mass[both], share[both], [1 / len(mass)]])
    ends = (float(held.min()) / 1.3, float(held.max()) * 1.3)
    left.plot(ends, ends, color=INK, lw=1, ls="--", label="drawn as the pool is")
    left.plot(mass[both], share[both], "o", color=COLOURS[0], ms=5, alpha=0.7, label="a region")
    left.set(title="who gets the samples", xlabel="share of the pool", ylabel="share of the samples")
    left.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    for axis in (left.xaxis, left.yaxis):
        _plain(axis, np.array(ends))
    left.legend(fontsize="small", frameon=False)
    right.step(seen.step[1:], seen.visited(), where="post", color=COLOURS[1], lw=2, label="seen so far")
    right.axhline(len(regions), color=INK, lw=1, ls="--", label="all regions")
    right.set(title="regions seen", ylabel="number of regions", ylim=(0, 1.08 * len(regions)))
    over_steps(right)
    right.set_xlim(0, seen.step[-1])
    right.legend(fontsize="small", frameon=False, loc="lower right")
    return svg_of(figure, "coverage")


def _heat(figure: Figure, panel: Axes, seen: Seen, values: Array, colours: Any, norm: Any, label: str) -> None:
    """(R, T) values as coloured cells over the steps of the run; what was not seen is grey."""
    ends = (seen.step[0], seen.step[-1], len(values) - 0.5, -0.5)
    width = np.diff(seen.step)
    across = np.linspace(ends[0], ends[1], min(480, 4 * len(width)), endpoint=False)
    even = np.searchsorted(seen.step, across, side="right") - 1
    shown = colours.with_extremes(bad=(0.5, 0.5, 0.5, 0.3))
    drawn = panel.imshow(values[:, even], aspect="auto", interpolation="none", extent=ends, cmap=shown, norm=norm)
    over_steps(panel)
    bar = figure.colorbar(drawn, ax=panel, location="bottom", aspect=40, pad=0.02)
    bar.set_label(label)
    if bar.ax.get_xscale() == "log":
        _plain(bar.ax.xaxis, np.array([norm.vmin, norm.vmax]))


def panels_of(count: int, height: float = 4.0, grid: bool = True) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8 if count == 1 else 5.2 * count, height), layout="constrained")
    panels = [figure.add_subplot(1, count, place + 1) for place in range(count)]
    for panel in panels:
        if grid:
            panel.grid(color=INK, alpha=0.12, lw=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def over_steps(panel: Axes) -> None:
    """Steps of the run from left to right, with room for large numbers."""
    from matplotlib.ticker import MaxNLocator

    panel.set_xlabel("optimiser step")
    panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _plain(axis: Any, value: Array) -> None:
    """Plain numbers on a logarithmic axis, a few of them however short it is."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    narrow = float(value.max()) < 20 * float(value.min())
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda tick, place: f"{tick:g}"))
    axis.set_minor_formatter(NullFormatter())


def _short(text: str, most: int) -> str:
    """Words for a figure: one line; a dollar sign is no mathematics here."""
    line = " ".join(text.split())
    line = line if len(line) <= most else line[: most - 1] + "…"
    return line.replace("$", r"\$")


def svg_of(figure: Figure, name: str) -> str:
    """An ``<svg>`` element whose ids begin with ``name``; the same bytes each time."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}), warnings.catch_warnings():  # text stays text
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has more letters than matplotlib
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    for here, there in PAGE.items():
        drawn = drawn.replace(here, there)
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", drawn)
