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
