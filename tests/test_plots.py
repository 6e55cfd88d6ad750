"""Charts: style, ticks, legends and SVG, whatever is drawn."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.colors import LogNorm, Normalize

from aria import plots

STARTS_HIGH = [4.0, 2.0, 1.0]
RANGES = [(0.3, 0.301), (0.9, 1.1), (0.5, 2), (1e-5, 1e5), (2e-7, 3e-7), (0.1234567, 0.1234568), (1, 12), (1e3, 1e6)]
"""Ends of logarithmic scales, from very close to each other to very far."""


def line(panels):
    for panel in panels:
        plots.curve(panel, 0, [1, 2, 3], STARTS_HIGH, "loss")


def drawn(chart):
    figure = chart.figure()
    figure.draw_without_rendering()
    return figure


def texts_of(axis):
    """The visible tick labels of an axis."""
    low, high = sorted(axis.get_view_interval())
    slack = 1e-6 * (high - low)
    shown = [tick.label1 for tick in axis.get_major_ticks() if low - slack <= tick.get_loc() <= high + slack]
    return [label for label in shown if label.get_text()]


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_curve_that_starts_at_its_maximum_has_headroom(scale):
    def paint(panels):
        line(panels)
        panels[0].set_yscale(scale)

    (panel,) = drawn(plots.Chart(paint)).axes
    top = panel.transAxes.inverted().transform(panel.transData.transform((1, STARTS_HIGH[0])))[1]
    assert 0.8 < top < 0.95


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 29, 30, 1000, 2_500_000])
def test_counts_have_whole_numbers(count):
    def paint(panels):
        panels[0].plot([count - 0.05, count], [0, count])
        plots.over_steps(panels[0])
        plots.whole_numbers(panels[0].yaxis)

    (panel,) = drawn(plots.Chart(paint)).axes
    for axis in (panel.xaxis, panel.yaxis):
        labels = [label.get_text() for label in texts_of(axis)]
        assert labels and len(labels) == len(set(labels)) <= plots.TICKS + 1
        assert all(re.fullmatch(r"\d+", label) for label in labels)
        assert all(float(tick).is_integer() for tick in axis.get_majorticklocs())


@pytest.mark.parametrize("norm", [LogNorm, Normalize])
@pytest.mark.parametrize("ends", RANGES)
def test_numbers_beside_a_colour_bar_do_not_collide(ends, norm):
    def paint(panels):
        shown = panels[0].imshow(np.array([ends]), norm=norm(*ends), aspect="auto")
        plots.colour_bar(panels[0], shown, "discrepancy")

    bar = drawn(plots.Chart(paint)).axes[-1]
    labels = texts_of(bar.xaxis)
    assert 2 <= len(labels) <= plots.TICKS and len({label.get_text() for label in labels}) == len(labels)
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.x0)
    assert all(right.x0 - left.x1 > 2 for left, right in itertools.pairwise(boxes))


@pytest.mark.parametrize("ends", RANGES)
def test_ticks_are_few_and_inside(ends):
    found = plots.ticks(*ends, log=True)
    assert 3 <= len(found) <= plots.TICKS and found == sorted(found)
    assert all(ends[0] * (1 - 1e-9) <= tick <= ends[1] * (1 + 1e-9) for tick in found)


def test_zero_has_no_sign():
    assert plots.numbers([-1.0, -0.0, 1.0]) == ["-1", "0", "1"]


def test_a_legend_lies_below_its_panel_and_inside_the_figure():
    def paint(panels):
        for index in range(12):
            plots.curve(panels[0], index, [0, 1], [0, index], f"arm {index} {'x' * (5 * index)}")
        line(panels[1:])

    figure = drawn(plots.Chart(paint, panels=2))
    for panel, count in zip(figure.axes, (12, 1), strict=True):
        legend = panel.get_legend()
        assert len(legend.get_texts()) == count
        box = legend.get_window_extent()
        label = panel.xaxis.get_tightbbox()
        assert 0 <= box.y0 and box.y1 <= label.y0
        assert 0 <= box.x0 and box.x1 <= figure.bbox.x1
    assert math.isclose(*(panel.get_window_extent().height for panel in figure.axes), rel_tol=0.01)


def test_panels_are_as_tall_with_a_legend_as_without():
    heights = []
    for label in (None, "a label so long that the legend has one column"):

        def paint(panels, label=label):
            panels[0].set_xlabel("step")
            for index in range(6):
                panels[0].plot([1, 2], [index, 2], label=label and f"{label} {index}")

        heights.append(drawn(plots.Chart(paint)).axes[0].get_window_extent().height)
    assert heights[1] == pytest.approx(heights[0], rel=0.05)


def test_every_panel_of_a_page_is_an_element_whose_ids_and_colours_are_its_own():
    elements = plots.Chart(line, panels=2).svg("losses")
    assert len(elements) == 2
    found = [set(re.findall(r'\bid="([^"]*)"', element)) for element in elements]
    assert all(found) and not found[0] & found[1]
    for ids, element in zip(found, elements, strict=True):
        assert element.startswith("<svg") and all(name.startswith("losses-") for name in ids)
        named = re.findall(r'(?:href="#|url\(#)([^")]*)', element)
        assert named and set(named) <= ids
        for printed, shown in plots.PAGE.items():
            assert printed not in element.lower() and shown in element


def test_a_dollar_sign_is_no_mathematics():
    chart = plots.Chart(lambda panels: plots.curve(panels[0], 0, [0, 1], [0, 1], "a $x$ for $1"))
    assert "a $x$ for $1" in chart.svg("prompt")[0]


@pytest.mark.parametrize("suffix, begins", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_files_are_of_the_kind_that_their_suffix_names(tmp_path, suffix, begins):
    path = tmp_path / f"loss.{suffix}"
    plots.Chart(line, panels=2).write(path)
    assert path.read_bytes().startswith(begins)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_same_chart_is_the_same_file(tmp_path):
    for name in ("a.svg", "b.svg"):
        plots.Chart(line).write(tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_drawing_leaves_the_users_style_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.Chart(line).svg("loss")
    assert dict(matplotlib.rcParams) == before
