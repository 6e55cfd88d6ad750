"""The pages that the commands write, opened in a browser: wide and narrow, on a light and on a dark screen."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.browser.looks import CUT_OFF, FAINT, FRACTIONS, OVERFLOWING, OVERLAPPING, PANELS, SCHEMES, VISIBLE, WIDTHS

if missing := [name for name in ("diffusers", "matplotlib", "scipy") if importlib.util.find_spec(name) is None]:
    pytest.skip(f"needs {', '.join(missing)}", allow_module_level=True)
pytestmark = pytest.mark.browser

FIGURES = """
(() => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
  const scale = m => Math.sqrt(Math.abs(m.a * m.d - m.b * m.c));
  const drawings = [...document.querySelectorAll("svg")].map(svg => {
    const box = svg.getBoundingClientRect(), held = svg.getBBox();
    const letter = Math.min(...[...svg.querySelectorAll("text")].map(
      text => parseFloat(getComputedStyle(text).fontSize) * scale(text.getScreenCTM())));
    return {kind: "svg", width: Math.min(box.width, held.width), height: Math.min(box.height, held.height), letter};
  });
  const images = [...document.images].map(
    img => ({kind: "img", width: Math.min(img.naturalWidth, img.width), height: img.naturalHeight, letter: null}));
  return [...drawings, ...images];
})()
"""
"""Every figure with its size and that of its smallest letters as they are shown, in pixels."""


def bench_page(folder: Path) -> Path:
    """All standard arms on two seeds of a very small world."""
    from aria.bench import report, result, run_experiment
    from tests.bench import small

    comparison = small.comparison(*small.ARMS)
    records = run_experiment(comparison, folder)
    page = folder / "bench.html"
    page.write_text(report.page(result.collect(comparison, records, command="aria bench --quick", seconds=1.0)))
    return page


def run_page(folder: Path) -> Path:
    """A run of a few hundred logged losses, thirty regions and ten grids."""
    from aria.cli import main
    from tests.distill.evaluation.test_report import write_run

    run, page = write_run(folder / "run", prompts="a photo of a red fox in the snow"), folder / "run.html"
    result = CliRunner().invoke(main, ["report", str(run), "--output", str(page)])
    assert result.exit_code == 0, result.output
    return page


def theory_page(folder: Path) -> Path:
    """Every figure, and the first four claims, which are enough for a table."""
    from theory import claims
    from theory.cli import main

    page = folder / "theory.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims, "CLAIMS", claims.CLAIMS[:4])
        result = CliRunner().invoke(main, ["report", "--out", str(page)])
    assert result.exit_code == 0, result.output
    return page


PAGES = {"aria bench": (bench_page, 3), "aria report": (run_page, 14), "aria-sim report": (theory_page, 13)}
"""The function that makes each page, and how many drawings and images it has."""


@pytest.fixture(scope="module", params=PAGES)
def made(request, tmp_path_factory):
    make, figures = PAGES[request.param]
    return make(tmp_path_factory.mktemp("page")), figures


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_is_whole_in_a_browser(browser, made, width, scheme):
    page, count = made
    browser.open(page, width=width, scheme=scheme)
    figures = browser.evaluate(FIGURES)
    assert len(figures) == count
    assert all(figure["width"] > 100 and figure["height"] > 100 for figure in figures if figure["kind"] == "svg")
    assert all(figure["width"] > 0 and figure["height"] > 0 for figure in figures)
    assert min(figure["letter"] for figure in figures if figure["kind"] == "svg") >= 8
    assert browser.evaluate(OVERFLOWING) == []
    assert browser.evaluate(CUT_OFF) == []
    assert browser.evaluate(OVERLAPPING) == []
    assert browser.evaluate(FRACTIONS) == []
    assert browser.evaluate(FAINT) == []
    assert browser.complaints() == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_of_the_matrix_is_whole_in_a_browser(browser, tmp_path, width, scheme):
    """Of the rows that the repository keeps."""
    from aria.bench import matrix_folder

    kept = Path(__file__).parents[2] / "benchmarks" / "results" / "matrix"
    shutil.copytree(kept, tmp_path / "matrix", ignore=shutil.ignore_patterns("cells"))
    found = matrix_folder.collect(tmp_path / "matrix", "aria bench --matrix emoji-core")
    browser.open(tmp_path / "matrix" / matrix_folder.PAGE, width=width, scheme=scheme)
    words = browser.evaluate("document.body.innerText")
    assert found["rows"] and all(label in words for label in found["rows"])
    for check in (OVERFLOWING, CUT_OFF, OVERLAPPING, FAINT):
        assert browser.evaluate(check) == []
    assert browser.complaints() == []


@pytest.mark.parametrize("width", WIDTHS)
def test_panels_are_side_by_side_where_there_is_room_and_stacked_where_there_is_not(browser, made, width):
    page, _ = made
    browser.open(page, width=width, scheme="light")
    pairs = [rows for rows in browser.evaluate(PANELS) if len(rows) > 1]
    assert pairs
    assert all((len(set(rows)) == len(rows)) is (width == min(WIDTHS)) for rows in pairs)


@pytest.mark.parametrize("width", [400, 1200])
def test_every_arm_is_in_the_legend_of_every_panel(browser, tmp_path, width):
    from aria.bench import report
    from aria.bench.figures import short_name
    from tests.bench.test_report import crowded

    result, page = crowded(), tmp_path / "bench.html"
    page.write_text(report.page(result))
    browser.open(page, width=width, scheme="dark")
    arms = {short_name(row["arm"]) for row in result["table"]}
    assert len(arms) == 12
    for panel in ("curves-0", "curves-1", "pareto-0"):
        assert arms <= set(browser.evaluate(f"{VISIBLE}('{panel}-')"))


def test_counts_have_whole_ticks_in_a_run_of_three_regions_and_two_steps(browser, tmp_path):
    from aria.distill.evaluation.report import Record, page
    from tests.distill.evaluation.test_report import write_run

    short = tmp_path / "run.html"
    short.write_text(page(Record(write_run(tmp_path / "run", steps=2, regions=3))))
    browser.open(short, width=min(WIDTHS), scheme="light")
    assert "number of regions" in browser.evaluate("document.body.textContent")
    assert browser.evaluate(FRACTIONS) == []
    assert browser.evaluate(OVERLAPPING) == []


def test_long_text_has_the_width_that_numbers_leave(browser, tmp_path):
    from aria import html

    long = {"arm": "aria", "takes conditions from": "regions, by tracked discrepancy, " * 5, "gap": 0.25}
    page = tmp_path / "page.html"
    page.write_text(html.page("A page", html.table([long])))
    browser.open(page, width=max(WIDTHS), scheme="light")
    table, cell = browser.evaluate("['table', 'td.long'].map(e => document.querySelector(e).clientWidth)")
    assert cell > 0.8 * table > 0.6 * 1000
    browser.open(page, width=min(WIDTHS), scheme="light")
    assert browser.evaluate("document.querySelector('.scroll').scrollWidth") <= min(WIDTHS)


BAD = """<!DOCTYPE html><meta charset="utf-8"><body style="background: #fff; color: #ddd">
<p style="width: 2000px">faint and wide</p>
<div class="panels" style="display: flex">
<svg width="200" height="50"><text x="9" y="20">one</text><text x="9" y="24">other</text></svg>
<svg width="200" height="50"><g id="b-axis_2"><g id="b-ytick_1"><text x="9" y="20">0.5</text></g>
<g><text x="9" y="45">number of regions</text></g></g><text x="190" y="20">beyond</text></svg></div>
<img src="data:image/png;base64,AAAA" alt="">
<link rel="stylesheet" href="https://example.org/style.css">
<script>console.error("loud"); throw new Error("thrown");</script>
"""


def test_a_bad_page_is_detected(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(BAD)
    browser.open(page, width=390, scheme="light")
    assert browser.evaluate(FIGURES)[-1]["width"] == 0
    assert browser.evaluate(OVERFLOWING)[0].startswith("the page is 20")
    assert browser.evaluate(FAINT)[0].startswith("faint and wide: 1.")
    assert browser.evaluate(OVERLAPPING) == ["one on other"]
    assert browser.evaluate(CUT_OFF) == ["beyond"]
    assert browser.evaluate(FRACTIONS) == ["number of regions: 0.5"]
    assert browser.evaluate(PANELS) == [[0, 0]]
    complaints = " ".join(browser.complaints())
    assert "loud" in complaints and "thrown" in complaints and "requested https://example.org/style.css" in complaints


@pytest.mark.parametrize("scheme, light", [("light", True), ("dark", False)])
def test_the_page_has_the_readers_scheme(browser, tmp_path, scheme, light):
    from aria import html

    page = tmp_path / "page.html"
    page.write_text(html.page("A page", html.tag("p", "Words.")))
    browser.open(page, width=390, scheme=scheme)
    colour = browser.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)")
    assert (sum(colour) > 380) is light
