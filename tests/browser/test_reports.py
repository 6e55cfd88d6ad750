"""The pages that the commands write, opened in a browser: wide and narrow, on a light and on a dark screen."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.browser.looks import FAINT, OVERFLOWING, OVERLAPPING, SCHEMES, WIDTHS

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
    from tests.distill.test_report import write_run

    from aria.cli import main

    run, page = write_run(folder / "run", prompts="a photo of a red fox in the snow"), folder / "run.html"
    result = CliRunner().invoke(main, ["report", str(run), "--output", str(page)])
    assert result.exit_code == 0, result.output
    return page


def theory_page(folder: Path) -> Path:
    """Every figure; of the claims the first four, which are enough for a table."""
    from theory import claims
    from theory.cli import main

    page = folder / "theory.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims, "CLAIMS", claims.CLAIMS[:4])
        result = CliRunner().invoke(main, ["report", "--out", str(page)])
    assert result.exit_code == 0, result.output
    return page


PAGES = {"aria bench": (bench_page, 2), "aria report": (run_page, 11), "aria-sim report": (theory_page, 9)}
"""The function that writes each page, and its number of figures."""


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
    assert browser.evaluate(FAINT) == []
    assert browser.complaints() == []


def test_no_words_lie_on_others_in_the_figures_of_a_comparison(browser, tmp_path):
    browser.open(bench_page(tmp_path), width=1280, scheme="light")
    assert browser.evaluate(OVERLAPPING) == []


BAD = """<!DOCTYPE html><meta charset="utf-8"><body style="background: #fff; color: #ddd">
<p style="width: 2000px">faint and wide</p>
<svg width="200" height="50"><text x="9" y="20">one</text><text x="9" y="24">other</text></svg>
<img src="data:image/png;base64,AAAA" alt="">
<link rel="stylesheet" href="https://example.org/style.css">
<script>console.error("loud"); throw new Error("thrown");</script>
"""


def test_what_is_wrong_with_a_page_is_seen(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(BAD)
    browser.open(page, width=390, scheme="light")
    assert browser.evaluate(FIGURES)[-1]["width"] == 0
    assert browser.evaluate(OVERFLOWING)[0].startswith("the page is 20")
    assert browser.evaluate(FAINT)[0].startswith("faint and wide: 1.")
    assert browser.evaluate(OVERLAPPING) == ["one on other"]
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
