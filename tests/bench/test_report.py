"""The page of a comparison, made from results with known numbers."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser

import pytest

pytest.importorskip("matplotlib")

from matplotlib.text import Text

from aria import html
from aria.bench import figures, report, result
from aria.bench.arms import arm
from aria.tasks import GROUPS
from tests.bench import small

WHERE = {"device", "accelerator", "tf32"}
EFFECT = {"rc": 1.0, "aria-q": 0.8, "<b>own</b>": 1.2, "oracle": 0.6}


def records(seeds):
    rows = []
    for name, effect in EFFECT.items():
        for seed in seeds:
            for step in (10, 20):
                common = {"arm": name, "seed": seed, "step": step}
                shaken = 1 + 0.01 * (seed % 3) * (name != "rc")
                value = (10 + seed) * effect * shaken * 20 / step
                rows += [{**common, "metric": m, "group": g, "value": value} for m in ("gap", "x0") for g in GROUPS]
                rows.append({**common, "metric": "own", "group": "images", "value": value})
    return rows


def made(seeds=(0, 1, 2, 3), changed=lambda rows: rows):
    arms = [small.ARMS["rc"], small.ARMS["aria-q"], arm("<b>own</b>: allocator=softmax; weighting=min_snr")]
    comparison = small.comparison(arms=[*arms, small.ARMS["oracle"]], seeds=seeds)
    return result.collect(comparison, changed(records(seeds)), command="aria bench --task 'a b'", seconds=61.0)


def crowded(count=12):
    """A comparison of so many arms, most of which have the same result."""
    outcome = made()
    last = outcome["table"][1]["gap.head"] | {"error": 0.1, "mean": 3.0}
    for place in range(len(outcome["table"]), count):
        outcome["table"].append(outcome["table"][1] | {"arm": f"$1, to {'a/' * 30}{place}", "gap.head": last})
        outcome["records"] += [{**row, "arm": outcome["table"][-1]["arm"]} for row in records((0, 1, 2, 3))
                            if row["arm"] == "aria-q"]  # fmt: skip
    return outcome


class Page(HTMLParser):
    """A parsed page: its words, its tags and everything it loads."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text):
        super().__init__()
        self.open, self.words, self.loads, self.tags = [], [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.loads += [value for name, value in attrs if name in {"src", "srcset", "data"} or name.endswith("href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name in {"src", "data"} or name.endswith("href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def outcome():
    return made()


@pytest.fixture(scope="module")
def text(outcome):
    return str(report.page(outcome))


def test_the_page_is_whole_and_loads_nothing(text):
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "iframe"} & page.tags
    assert all(value.startswith("#") for value in page.loads)
    assert "@import" not in text and not re.search(r"url\((?!['\"]?#)", text)
    assert "prefers-color-scheme: dark" in text


def test_the_page_shows_changes_settings_and_origin(text):
    words = " ".join(Page(text).words)
    assert "-19.4 ± 0.4*" in words and "+20.9 ± 0.6*" in words  # .8 and 1.2 times 1.0075 on average
    assert "exponential(5.0)" in words and "aria bench --task 'a b'" in words
    for part in ("of the oracle's gain", "head", "min_snr", "labels('concept')", "torch", "20 steps"):
        assert part in words, part


def test_gains_are_green_losses_red_and_names_are_text(text):
    assert '<td class="number good">-19.4 ± 0.4*</td>' in text
    assert '<td class="number bad">+20.9 ± 0.6*</td>' in text
    assert "<b>own</b>" not in text and "&lt;b&gt;own&lt;/b&gt;" in text


def test_the_page_explains_arms_groups_and_colours(text):
    words = " ".join(" ".join(Page(text).words).split())
    assert "Each row is an arm" in words and "head (the most frequent)" in words
    assert "unseen (those without images)" in words
    assert "Green : the gap shrinks by more than two standard errors; orange : it grows by more than two" in words
    assert "the pool (random conditioning)" in words and "an arm of your own" in words
    assert len(re.findall("<th[^>]*>arm</th>", text)) == 5 and not re.search("<th[^>]*></th>", text)


def speed_of(text):
    """The section of the page about speed."""
    return text[text.index("Speed and share of the possible gain") : text.index("Numbers</h2>")]


def test_a_column_of_dashes_is_left_out_and_the_page_explains_why(text):
    """Here the oracle gains and lookahead was not run; then the oracle's gain is not significant."""
    columns = ("arm", "of the oracle's gain", "of lookahead's", "groups that get worse")
    assert [f">{html.text(title)}</th>" in speed_of(text) for title in columns] == [True, True, False, True]
    assert "not significant" not in speed_of(text)

    def wobbling(rows):
        return [{**row, "value": row["value"] * 9 ** (row["seed"] % 2 * (row["arm"] == "oracle"))} for row in rows]

    speed = speed_of(str(report.page(made(changed=wobbling))))
    assert "Shares of the gain of oracle are not shown" in speed and html.text(columns[1]) not in speed
    assert "get worse" not in speed_of(str(report.page(made(seeds=(0,)))))


def test_what_rounds_to_zero_has_no_sign():
    outcome = made()
    outcome["table"][1]["gap.uniform"]["mean"] = -0.04
    assert '<td class="number">0.0 ± 0.4*</td>' in report.page(outcome)


def test_names_lie_on_nothing():
    """Neither on one another nor on points, their errors or the axes, however many arms are in one place."""
    figure = figures.both(crowded()).figure()
    figure.draw_without_rendering()
    panel = figure.axes[1]
    names = [Text.get_window_extent(text) for text in panel.texts]  # without the lines to their points
    assert len(names) == 12
    assert min(name.x0 for name in names) > panel.get_window_extent().x1
    ordered = sorted(names, key=lambda name: name.y0)
    assert all(above.y0 >= below.y1 - 1 for below, above in itertools.pairwise(ordered))
    assert max(name.x1 for name in names) <= figure.bbox.x1 + 1
    legend = figure.axes[0].get_legend()
    assert len(legend.get_texts()) == 12
    assert legend.get_window_extent().x0 >= 0 and legend.get_window_extent().x1 <= panel.get_window_extent().x0
    assert 0 <= legend.get_window_extent().y0 < legend.get_window_extent().y1 < panel.get_window_extent().y0


def test_arms_look_unlike_each_other_on_a_dark_page_too():
    dark = {"#0072b2": "#56b4e9"}  # --blue there
    looks = [(look.colour.lower(), look.stroke) for look in figures.looks(crowded()).values()]
    assert len({(dark.get(colour, colour), stroke) for colour, stroke in looks}) == 12


def test_figures_take_the_pages_ink(text):
    assert text.count("<svg") == 3
    assert "currentColor" in text and "#000000" not in text[text.index("<svg") :]
    outcome = made()
    for panel in (*figures.curves(outcome).svg("curves"), *figures.pareto(outcome).svg("pareto")):
        assert "rc" in panel and "aria-q" in panel


def test_curves_are_relative_to_the_end_of_the_baseline_seed_by_seed():
    curves = figures.relative_curves(made(), "unseen")
    steps, mean, error = curves["rc"]
    assert steps == [10, 20]
    assert mean.tolist() == pytest.approx([2.0, 1.0]) and error.tolist() == pytest.approx([0, 0])
    _, mean, error = curves["aria-q"]
    shaken = [1.0, 1.01, 1.02, 1.0]
    assert mean[1] == pytest.approx(0.8 * sum(shaken) / 4)
    assert error[1] == pytest.approx(0.8 * (sum((s - 1.0075) ** 2 for s in shaken) / 3) ** 0.5 / 2)


def test_one_seed_makes_a_page_without_errors():
    outcome = made(seeds=(0,))
    assert "NaN" not in json.dumps(outcome)
    words = " ".join(Page(str(report.page(outcome))).words)
    assert "-20.0" in words and "± " not in words.replace("± standard error", "")


def test_a_result_read_back_makes_the_same_page(outcome, text):
    assert report.page(json.loads(json.dumps(outcome))) == text


def test_a_result_has_all_its_fields():
    outcome = made()
    assert outcome["format"] == "aria-bench/1"
    assert outcome["machine"].keys() == WHERE | {"architecture", "system", "cores", "threads", "python", "versions"}
    assert outcome["arms"][2]["allocator"] == "softmax"
    assert outcome["task"].startswith("concepts(groups=3, concepts=2,")
    assert len(outcome["records"]) == 4 * 4 * 2 * 13
