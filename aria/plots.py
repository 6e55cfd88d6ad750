"""Charts for pages and for files: the one place that decides style, ticks, legends and how SVG is written.

A :class:`Chart` is a function that draws on matplotlib axes. On a page each panel becomes an SVG element of its own, so
that panels stand side by side where there is room and stacked where there is not; in a PNG, SVG or PDF file they stand
side by side. The colours are those of Okabe and Ito, which the colour-blind can tell apart, and lines differ in their
strokes and markers too.

>>> chart = Chart(lambda panels: curve(panels[0], 0, [1, 2, 3], [4.0, 2.0, 1.0], "loss"))
>>> [element[:4] for element in chart.svg("loss")]
['<svg']
"""

from __future__ import annotations

import io
import itertools
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aria import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
STROKES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK = "#000000"
PAGE = {INK: "currentColor", "#0072b2": "var(--blue)"}
"""Colours that a page decides: the ink, and the blue that would be dim on a dark page."""

WIDTH, HEIGHT = 4.8, 3.4
"""Inches of one panel, without its legend. On a phone's screen the smallest letters are about 9 pixels high."""
LETTER, LINE = 5.0, 14.2
"""Points that a letter of a legend is wide and a line of it is high, rounded up."""
LEGEND = 50
"""Letters in a line of a legend; longer labels are wrapped."""
BELOW, GAP = 38.0, 8.0
"""Points from the bottom of the axes to the legend, and how many of them tick labels and axis label leave free."""
TICKS = 6
"""Most ticks of a logarithmic axis, of a colour bar and of an axis of counts."""

STYLE: dict[Any, Any] = {
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "axes.ymargin": 0.1,  # headroom: a curve that starts at its maximum does not start in the corner
    "axes.formatter.useoffset": False,
    "text.parse_math": False,  # a dollar sign in a prompt is a dollar sign
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "aria",  # the same bytes each time
}


class Look(NamedTuple):
    """How one series is drawn."""

    colour: str
    stroke: str
    marker: str


REFERENCE = Look(INK, "-", "o")
"""The look of a baseline, in the colour of the text."""


def look(index: int) -> Look:
    """The look of the ``index``-th series: 20 of them differ in (colour, stroke), and neighbours in everything.

    >>> len({look(index)[:2] for index in range(20)})
    20
    """
    return Look(*(options[index % len(options)] for options in (COLOURS, STROKES, MARKERS)))


# -------------------------------------------------------------------------------------------------------------- charts


@dataclass(frozen=True)
class Chart:
    """Panels that are shown together."""

    paint: Callable[[Sequence[Axes]], None]
    """Draws on as many axes as there are panels; style, tick numbers and legends are added by the chart."""
    panels: int = 1
    height: float = HEIGHT
    """Inches, without legends."""

    def figure(self) -> Figure:
        """All panels side by side, for a file."""
        with _style():
            figure, axes = self._blank(self.panels)
            self.paint(axes)
            _finish(figure)
        return figure

    def svg(self, name: str) -> list[str]:
        """An ``<svg>`` element for each panel; ids begin with ``name``, ink and blue are taken from the page."""
        with _style():
            figures, axes = zip(*(self._blank(1) for _ in range(self.panels)))
            self.paint([axis for (axis,) in axes])
            for figure in figures:
                _finish(figure)
            return [_element(figure, f"{name}-{place}") for place, figure in enumerate(figures)]

    def write(self, path: str | Path) -> None:
        """A file of the kind that its suffix names, on white paper."""
        with files.replacing(path) as unfinished, _style():
            self.figure().savefig(unfinished, dpi=150, **_undated(unfinished))

    def _blank(self, count: int) -> tuple[Figure, list[Axes]]:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH * count, self.height), layout="constrained")
        return figure, [figure.add_subplot(1, count, place + 1) for place in range(count)]


@contextmanager
def _style() -> Iterator[None]:
    from matplotlib import rc_context

    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has more letters than matplotlib
        yield


def _finish(figure: Figure) -> None:
    """Add what every panel has: plain numbers on logarithmic axes, and a legend below where anything has a label."""
    panels = [panel for panel in figure.axes if panel.get_label() != "<colorbar>"]
    lines = [0]
    for panel in panels:
        for axis in (panel.xaxis, panel.yaxis):
            if axis.get_scale() == "log":
                _plain_numbers(axis)
        if panel.get_legend_handles_labels()[0]:
            lines.append(_legend(panel))
    if max(lines):
        figure.set_figheight(figure.get_figheight() + (GAP + LINE * max(lines)) / 72)


def _legend(panel: Axes) -> int:
    """A legend below the panel, where it hides no line; the number of its lines."""
    from matplotlib.transforms import ScaledTranslation

    handles, labels = panel.get_legend_handles_labels()
    labels = [textwrap.fill(label, LEGEND) for label in labels]
    longest = max(len(line) for label in labels for line in label.splitlines())
    columns = max(1, min(len(labels), int(72 * (WIDTH - 0.6) / (LETTER * longest + 40))))
    figure = panel.get_figure(root=True)
    assert figure is not None  # it was made by add_subplot
    down = ScaledTranslation(0, -BELOW / 72, figure.dpi_scale_trans)
    panel.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=panel.transAxes + down,
                 ncols=columns, borderpad=0, borderaxespad=0)  # fmt: skip
    rows = -(-len(labels) // columns)  # a column is filled before the next one begins
    starts = range(0, len(labels), rows)
    return max(sum(len(label.splitlines()) for label in labels[start : start + rows]) for start in starts)


# --------------------------------------------------------------------------------------------------------------- series


def curve(panel: Axes, index: int, x: Sequence[float], y: Sequence[float], label: str) -> None:
    """The ``index``-th series as a line."""
    colour, stroke, _ = look(index)
    panel.plot(x, y, stroke, color=colour, lw=1.6, label=label)


def dots(panel: Axes, index: int, x: Sequence[float], y: Sequence[float], half: Sequence[float], label: str) -> None:
    """The ``index``-th series as points with the half-widths of their intervals."""
    colour, _, marker = look(index)
    panel.errorbar(x, y, yerr=half, fmt=marker, ms=4.5, color=colour, capsize=2.5, lw=1, label=label)


def colour_bar(panel: Axes, shown: ScalarMappable, label: str) -> None:
    """The scale of a heat map below it."""
    figure = panel.get_figure(root=True)
    assert figure is not None  # it was made by add_subplot
    bar = figure.colorbar(shown, ax=panel, location="bottom", aspect=40, pad=0.04)
    bar.set_label(label)
    found = ticks(*shown.get_clim(), log=bar.ax.get_xscale() == "log")
    bar.set_ticks(found, labels=numbers(found))
    bar.ax.minorticks_off()


def name_points(panel: Axes, points: Iterable[tuple[str, tuple[float, float], Look]]) -> None:
    """Names in a column to the right of the panel, as high as their points or nearly so, with lines to them."""
    figure = panel.get_figure(root=True)
    assert figure is not None  # it was made by add_subplot
    figure.draw_without_rendering()  # which lays it out: the panel is now as tall as it will be
    (low, high), apart = panel.get_ylim(), LINE * figure.dpi / 72 / panel.get_window_extent().height
    rising = sorted(points, key=lambda point: point[1][1])
    heights = spread([(y - low) / (high - low) for _, (_, y), _ in rising], apart)
    for (name, place, look), height in zip(rising, heights):
        line = {"arrowstyle": "-", "color": look.colour, "alpha": 0.5, "lw": 0.6, "shrinkA": 0, "shrinkB": 4}
        panel.annotate(name, place, xytext=(1.03, height), textcoords="axes fraction", va="center",
                       fontsize=STYLE["legend.fontsize"], color=INK,
                       arrowprops=line | {"relpos": (0, 0.5)})  # fmt: skip


def spread(heights: Sequence[float], least: float) -> list[float]:
    """Rising ``heights`` in [0, 1], moved up by as little as sets each ``least`` above the one before, and down again
    where they leave the interval.

    >>> [round(height, 2) for height in spread([0.1, 0.1, 0.95, 0.95], 0.1)]
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


def words(text: str, most: int, *, keep_end: bool = False) -> str:
    """Text for a chart: one line of at most ``most`` letters, cut at its end or, to keep that, at its beginning.

    >>> words("one two three", 8), words("runs/of/today", 6, keep_end=True)
    ('one two…', '…today')
    """
    line = " ".join(text.split())
    if len(line) > most:
        line = f"…{line[len(line) - most + 1 :]}" if keep_end else f"{line[: most - 1]}…"
    return line


# ---------------------------------------------------------------------------------------------------------------- ticks


def whole_numbers(axis: Axis) -> None:
    """Ticks of an axis that counts: never a fraction, however short the axis is."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(TICKS, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axis.set_major_formatter(FuncFormatter(lambda tick, place: f"{tick:z.0f}"))


def over_steps(panel: Axes) -> None:
    """The steps of a run from left to right."""
    panel.set_xlabel("optimiser step")
    whole_numbers(panel.xaxis)


def _plain_numbers(axis: Axis) -> None:
    """A few plain numbers on a logarithmic axis, however short or long it is; ticks set by hand are left alone."""
    from matplotlib.ticker import FixedLocator, NullLocator

    if not isinstance(axis.get_major_locator(), FixedLocator):
        low, high = sorted(map(float, axis.get_view_interval()))
        found = ticks(low, high, log=True)
        axis.set_ticks(found, numbers(found))
    axis.set_minor_locator(NullLocator())


def ticks(low: float, high: float, *, log: bool = False) -> list[float]:
    """Round numbers between ``low`` and ``high``, 3 to 6 of them where that can be.

    On a logarithmic scale they are 1, 2 and 5 times powers of ten, powers of ten alone where those are too many, and
    evenly spaced where those are too few.

    >>> ticks(0.3, 20, log=True), ticks(1e-4, 1e4, log=True), ticks(0.300, 0.312, log=True)
    ([0.5, 1.0, 2.0, 5.0, 10.0, 20.0], [0.0001, 0.01, 1.0, 100.0, 10000.0], [0.3, 0.304, 0.308, 0.312])
    """
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        fine = [one for power in powers for factor in (1, 2, 5) if low <= (one := float(f"{factor}e{power}")) <= high]
        if 3 <= len(fine) <= TICKS:
            return fine
        if len(fine) > TICKS:
            decades = [one for power in powers if low <= (one := float(f"1e{power}")) <= high]
            return decades[:: -(-len(decades) // TICKS)]
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(TICKS - 1, steps=[1, 2, 4, 5, 10]).tick_values(low, high)
    slack = (high - low) * 1e-9
    return [float(f"{tick:.12g}") for tick in found if low - slack <= tick <= high + slack]


def numbers(values: Sequence[float]) -> list[str]:
    """Ticks as text, in as few digits as set them apart; very small and large ones as powers of ten.

    >>> numbers([0.5, 1.0, 20000.0]), numbers([0.30001, 0.30002]), numbers([2e-05, 0.1]), numbers([-0.0, 1.0])
    (['0.5', '1', '20000'], ['0.30001', '0.30002'], ['2·10⁻⁵', '10⁻¹'], ['0', '1'])
    """
    apart = min((abs(b - a) for a, b in itertools.pairwise(values)), default=0.0)
    for digits in range(3, 17):
        rounded = [float(f"{value:z.{digits - 1}e}") for value in values]
        if all(abs(near - value) <= 0.01 * apart for near, value in zip(rounded, values)):
            break
    if all(value == 0 or 1e-4 <= abs(value) < 1e6 for value in rounded):
        return [f"{value:.15g}" for value in rounded]
    return [_power(value, digits) for value in rounded]


def _power(value: float, digits: int) -> str:
    """2·10⁻⁵ for 2e-5."""
    if not value:
        return "0"
    factor, power = f"{value:.{digits - 1}e}".split("e")
    factor = factor.rstrip("0").rstrip(".")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if factor == "1" else f"{factor}·10{raised}"


# ------------------------------------------------------------------------------------------------------------------ SVG


def _element(figure: Figure, name: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, **_undated("page.svg"))
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    for printed, shown in PAGE.items():
        drawn = drawn.replace(printed, shown)
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", drawn)


def _undated(path: str | Path) -> dict[str, Any]:
    """Leave out of an SVG file when and by what it was made, so that the same chart is the same bytes."""
    svg = Path(path).suffix.lower() == ".svg"
    return {"metadata": dict.fromkeys(("Creator", "Date", "Format", "Type"))} if svg else {}
