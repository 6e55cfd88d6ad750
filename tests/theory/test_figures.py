"""The figures: each can be drawn, has labelled axes, and shows the current bounds and simulations."""

from __future__ import annotations

import inspect
import math
import pkgutil

import pytest

from aria import plots
from theory import bounds, figures
from theory.figures import (
    FIGURES,
    against_the_limit,
    allocation,
    best_rate,
    closed_loop,
    fixed_time_radius,
    rare_visits,
    selective_visits,
    worth,
)

SMALL = 0.02
"""Share of the replicas: enough to draw, not to conclude."""


SHORTER = {
    against_the_limit: {"STEPS": 60, "BURN": 30},
    allocation: {"STEPS": 30},
    fixed_time_radius: {"STEPS": 60},
    rare_visits: {"VISITS": (1.0, 0.3)},
    selective_visits: {"STEPS": 60, "BURN": 20},
    worth: {"STEPS": 20, "SPREADS": (0.3, 0.9)},
}
"""Of runs whose simulated numbers are only drawn here."""


@pytest.fixture(scope="module")
def measured():
    """The numbers of each picture, once, from runs cut short where they are long."""
    with pytest.MonkeyPatch.context() as patch:
        for module, names in SHORTER.items():
            for name, value in names.items():
                patch.setattr(module, name, value)
        return {name: picture.measure(0, SMALL) for name, picture in FIGURES.items()}


def test_every_file_is_listed():
    files = {module.name.replace("_", "-") for module in pkgutil.iter_modules(figures.__path__)} - {"base"}
    assert files == set(FIGURES)


@pytest.fixture(scope="module")
def painted(measured):
    """Each picture drawn, once."""
    return {name: picture.chart(measured[name]).figure() for name, picture in FIGURES.items()}


@pytest.mark.parametrize("name", FIGURES)
def test_axes_have_labels_and_a_legend(name, painted):
    picture, drawn = FIGURES[name], painted[name]
    assert picture.title and picture.caption.endswith(".")
    for panel in drawn.axes:
        assert panel.get_xlabel()
        assert panel.get_ylabel() or [label.get_text() for label in panel.get_yticklabels()]
        assert panel.get_legend() is not None
        assert panel.lines or panel.containers


def test_files_are_the_same_each_time(measured, tmp_path):
    chart = FIGURES["error-vs-rate"].chart(measured["error-vs-rate"])
    for file in ("a.svg", "b.svg"):
        chart.write(tmp_path / file)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("name", FIGURES)
def test_lines_are_distinguished_by_more_than_colour(name, painted):
    for panel in painted[name].axes:
        lines = [line for line in panel.lines if not str(line.get_label()).startswith("_")]
        looks = [(line.get_linestyle(), line.get_marker(), line.get_linewidth(), line.get_color()) for line in lines]
        assert len({look[:3] for look in looks}) == len(looks)
        used = {colour.upper() for *_, colour in looks if isinstance(colour, str) and colour.startswith("#")}
        assert used <= {plots.INK, *plots.COLOURS}


def test_numbers_follow_the_seed():
    picture = FIGURES["error-vs-rate"]
    assert picture.measure(1, SMALL) == picture.measure(1, SMALL) != picture.measure(2, SMALL)


# ------------------------------------------------------------------------------------------ what the figures conclude


def test_the_closed_loop_attains_its_bound_and_breaks_the_textbooks(measured):
    for row in measured["closed-loop"]:
        assert row["worst case"] == pytest.approx(row["adaptive bound"], rel=1e-4)  # equal on every branch
    assert max(row["worst case"] for row in measured["closed-loop"]) > 1.3


def test_a_broken_bound_moves_the_curve(monkeypatch):
    """No number is hard-coded: with another bound the numbers differ."""
    monkeypatch.setattr(bounds, "ema_mse", lambda rate, sigma, drift, adaptive=True: 2.0 if adaptive else 1.0)
    assert {row["adaptive bound"] for row in closed_loop.measure(0, SMALL)} == {2.0}


def test_the_limit_is_a_limit(measured):
    rows = measured["against-the-limit"]
    assert len(rows) == 2 * len(against_the_limit.DRIFTS)
    for row in rows:
        assert row["no tracker below"] < 1 <= min(row[name] for name in against_the_limit.CERTIFIED)


def test_simulated_best_rates_are_within_the_grid_of_the_theory(measured):
    """The error is flat around its best: two steps of the grid in all."""
    step = best_rate.RATES[0] / best_rate.RATES[1]
    for row in measured["best-rate"]:
        assert abs(math.log(row["simulated"] / row["fixed path"])) < 2 * math.log(step)


def test_selective_visits_make_estimates_low():
    last = FIGURES["selective-visits"].measure(0, 0.1)[-1]
    assert last["ema"] + 3 * last["ema ±"] < 0
    assert abs(last["importance"]) < 3 * last["importance ±"]
    assert abs(last["weighted by visits"]) < 0.2 * abs(last["ema"])


def test_fixed_time_radii_fail_where_errors_are_left_alone():
    wide = fixed_time_radius.measure(0, 0.2)[0]
    assert wide["selective low"] > wide["δ"] > wide["coin high"]
    assert wide["union high"] < wide["δ"]


def test_allocators_are_those_it_names(measured):
    shown = [row["allocator"].split("(")[0] for row in measured["allocation"]]
    assert shown == list(allocation.ALLOCATORS)


def test_the_proportional_rule_gains_what_there_is_unless_effort_teaches_all(monkeypatch):
    monkeypatch.setattr(worth, "SPREADS", (0.9,))
    (row,) = worth.measure(0, 0.5)
    assert row["proportional, transfer 0"] == pytest.approx(row["most, transfer 0"], rel=0.1)
    assert row["proportional, transfer 0.9"] == pytest.approx(0.6 * row["most, transfer 0.9"], rel=0.2)
    assert row["most, transfer 0"] == pytest.approx(100 * bounds.worth_of_spread(0.9), rel=0.05)


def test_every_picture_takes_a_seed_and_a_size():
    for picture in FIGURES.values():
        assert list(inspect.signature(picture.measure).parameters) == ["seed", "size"]
