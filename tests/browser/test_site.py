"""The documentation's site in a browser: nothing fails, nothing is cut off, figures are there."""

from __future__ import annotations

import importlib.util

import pytest

from tests import sites
from tests.browser.looks import SCHEMES, WIDTHS

if importlib.util.find_spec("mkdocs") is None:
    pytest.skip("needs mkdocs", allow_module_level=True)
pytestmark = pytest.mark.browser

PAGES = ("index", "extending", "theory", "cli", "api/aria.trackers", "api/theory.bounds")
IMAGES = "[...document.images].filter(img => !img.complete || img.naturalWidth == 0).map(img => img.src)"
FOUND = "document.querySelectorAll('.md-search-result__link')"
ASK = """
const field = document.querySelector(".md-search__input")
field.focus()
field.value = "stratified"
field.dispatchEvent(new Event("keyup"))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return sites.build(tmp_path_factory.mktemp("site"))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_the_site_is_whole(browser, site, page, width, scheme):
    browser.open(site / f"{page}.html", width=width, scheme=scheme)
    assert browser.evaluate("document.querySelector('h1').getBoundingClientRect().height") > 10
    assert browser.evaluate("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[scheme]
    assert browser.evaluate("document.scrollingElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.evaluate(IMAGES) == []
    assert browser.complaints(beside=site) == []


@pytest.mark.parametrize("page", ["index", "api/aria.trackers"])
def test_the_site_can_be_searched_from_a_disk(browser, site, page):
    browser.open(site / f"{page}.html", width=max(WIDTHS), scheme="light")
    browser.evaluate(ASK)
    waits = "new Promise(done => setTimeout(done, 100))"
    assert any(browser.evaluate(f"{waits}.then(() => {FOUND}.length)") for _ in range(100))
    assert any("sampler.html" in link for link in browser.evaluate(f"[...{FOUND}].map(link => link.href)"))
    assert browser.complaints(beside=site) == []
