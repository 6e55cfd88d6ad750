"""The page of a comparison, from results whose numbers are known."""

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
EFFECT = {"rc": 1.0, "aria-q": 0.8, "<b>mine</b>": 1.2, "oracle": 0.6}


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
    arms = [small.ARMS["rc"], small.ARMS["aria-q"], arm("<b>mine</b>: allocator=softmax; weighting=min_snr")]
    comparison = small.comparison(arms=[*arms, small.ARMS["oracle"]], seeds=seeds)
    return result.collect(comparison, changed(records(seeds)), command="aria bench --task 'a b'", seconds=61.0)


def crowded(count=12):
    """So many arms, most of them at one point."""
    result = made()
    last = {"error": 0.1, "mean": 3.0}
    for place in range(len(result["table"]), count):
        result["table"].append(result["table"][1] | {"arm": f"{place}: $1, to {'a/' * 30}", "gap.head": last})
        result["records"] += [{**row, "arm": result["table"][-1]["arm"]} for row in records((0, 1, 2, 3))
                            if row["arm"] == "aria-q"]  # fmt: skip
    return result


class Page(HTMLParser):
    """Checks that a page is well-formed, and collects its words and the files it loads."""

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
def text():
    return str(report.page(made()))


def test_the_page_is_whole_and_loads_nothing(text):
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "iframe"} & page.tags
    assert all(value.startswith("#") for value in page.loads)
    assert "@import" not in text and not re.search(r"url\((?!['\"]?#)", text)
    assert "prefers-color-scheme: dark" in text


def test_the_page_shows_who_gains_who_pays_and_how_it_was_made(text):
    words = " ".join(Page(text).words)
    assert "-19.4 ± 0.4*" in words and "+20.9 ± 0.6*" in words  # .8 and 1.2 times 1.0075 on average
    assert "exponential(5.0)" in words and "aria bench --task 'a b'" in words
    for text in ("of the oracle's gain", "head", "min_snr", "labels('concept')", "torch", "20 steps"):
        assert text in words, text


def test_gains_are_green_losses_red_and_names_are_text(text):
    assert '<td class="number good">-19.4 ± 0.4*</td>' in text
    assert '<td class="number bad">+20.9 ± 0.6*</td>' in text
    assert "<b>mine</b>" not in text and "&lt;b&gt;mine&lt;/b&gt;" in text


def test_the_page_explains_arms_groups_and_colours(text):
    words = " ".join(" ".join(Page(text).words).split())
    assert "A row is an arm" in words and "head (the most frequent)" in words and "unseen (without images)" in words
    assert "Green is what shrinks by more than two standard errors, orange what grows by as much" in words
    assert "from the pool, as random conditioning has it" in words and "an arm of your own" in words
    assert text.count("<th>arm</th>") == 5 and "<th></th>" not in text


def test_an_empty_column_is_left_out_with_a_reason(text):
    """The oracle gains here, and lookahead was not run; elsewhere the oracle's gain may be chance."""
    shown = [html.text(title) for title in ("arm", "of the oracle's gain", "of lookahead's", "who pays")]
    speed = text[text.index("Sooner, and how near") :]
    assert [title in speed for title in shown] == [True, True, False, True]
    assert "cannot be told from chance" not in speed

    def wobbling(rows):
        return [{**row, "value": row["value"] * 9 ** (row["seed"] % 2 * (row["arm"] == "oracle"))} for row in rows]

    speed = str(report.page(made(changed=wobbling)))
    speed = speed[speed.index("Sooner, and how near") :]
    assert "No share of the gain of oracle is shown" in speed and shown[1] not in speed
    speed = str(report.page(made(seeds=(0,))))
    assert "who pays" not in speed[speed.index("Sooner, and how near") :]


def test_what_rounds_to_nothing_has_no_sign():
    result = made()
    result["table"][1]["gap.uniform"]["mean"] = -0.04
    assert '<td class="number">0.0 ± 0.4*</td>' in report.page(result)


def test_names_lie_on_nothing():
    """Neither on one another nor on points, their errors or the axes, however many arms are in one place."""
    figure = figures.both(crowded())
    figure.draw_without_rendering()
    panel = figure.axes[1]
    names = [Text.get_window_extent(text) for text in panel.texts]  # without the lines to their points
    assert len(names) == 12
    assert min(name.x0 for name in names) > panel.get_window_extent().x1
    ordered = sorted(names, key=lambda name: name.y0)
    assert all(above.y0 >= below.y1 - 1 for below, above in itertools.pairwise(ordered))
    assert max(name.x1 for name in names) <= figure.bbox.x1 + 1
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1


def test_arms_look_unlike_each_other_on_a_dark_page_too():
    looks = figures._looks(crowded())
    dark = {"#0072b2": "#56b4e9"}  # --blue there
    assert len({(dark.get(colour.lower(), colour.lower()), stroke) for colour, stroke in looks.values()}) == 12


def test_figures_take_the_pages_ink(text):
    assert text.count("<svg") == 2
    assert "currentColor" in text and "#000000" not in text[text.index("<svg") :]
    for name in ("rc", "aria-q"):
        assert name in figures.curves(made())
        assert name in figures.pareto(made())


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
    result = made(seeds=(0,))
    assert "NaN" not in json.dumps(result)
    words = " ".join(Page(str(report.page(result))).words)
    assert "-20.0" in words and "± " not in words.replace("± standard error", "")


def test_a_result_read_back_makes_the_same_page():
    result = made()
    again = json.loads(json.dumps(result))
    assert report.page(again) == report.page(result)


def test_a_result_has_all_its_fields():
    result = made()
    assert result["format"] == "aria-bench/1"
    assert result["machine"].keys() == WHERE | {"architecture", "system", "cores", "threads", "python", "versions"}
    assert result["arms"][2]["allocator"] == "softmax"
    assert result["task"].startswith("concepts(groups=3, concepts=2,")
    assert len(result["records"]) == 4 * 4 * 2 * 13
