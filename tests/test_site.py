"""The site: built without a warning, it documents what is exported and nothing else, and loads nothing from outside."""

from __future__ import annotations

import doctest
import importlib.util
import re
import zlib
from html.parser import HTMLParser

import pytest

from docs._tools import api_pages, links
from tests import sites

if importlib.util.find_spec("mkdocs") is None:
    pytest.skip("needs mkdocs", allow_module_level=True)

from docs._tools import mathematics

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return sites.build(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def documented(site):
    """Every Python object that has a place on the site, as the inventory for other projects lists them."""
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    rows = (line.split(" ") for line in zlib.decompress(inventory).decode().splitlines())
    return {name for name, kind, *_ in rows if kind.startswith("py:")}


def test_everything_exported_is_documented(documented):
    wanted = {f"{module}.{name}" for module, names in api_pages.exported().items() for name in names}
    modules = set(api_pages.exported())
    assert len(wanted) > 150
    assert wanted - documented - modules == set()


def test_nothing_private_is_documented(documented):
    assert [name for name in documented if any(part.startswith("_") for part in name.split("."))] == []


class Loaded(HTMLParser):
    """What a page loads to be shown; links that a reader may follow are not."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.found += [attributes[name] for name in ("src", "srcset", "data") if attributes.get(name)]
        if tag == "link" and attributes.get("rel") in {"stylesheet", "preconnect", "preload", "icon"}:
            self.found.append(attributes["href"])


def test_nothing_is_loaded_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        assert [url for url in Loaded(page.read_text()).found if re.match(r"(\w+:)?//", url)] == [], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text()), style.name


def test_the_site_can_be_searched_from_a_disk(site):
    """The index as a script, and the script in the place of a worker; ``tests/browser`` searches."""
    assert (site / "search" / "search_index.js").read_text().startswith("var __index = {")
    assert all('src="../iframe-worker.js"' in page.read_text() for page in (site / "api").glob("*.html"))


def test_names_of_modules_lead_to_their_pages(site):
    for page in ("index.html", "extending.html"):
        assert '<a href="api/aria.testing.html"><code>aria.testing</code></a>' in (site / page).read_text()
    assert '<a href="aria.interfaces.html"><code>aria.interfaces</code></a>' in (site / "api/index.html").read_text()


def test_what_is_a_link_or_has_no_place_stays_as_it_is():
    assert doctest.testmod(links) == (0, 1)
    for text in ("<a href='x'><code>aria.testing</code></a>", "<pre><code>aria.testing</code></pre>",
                 "<h2>the <code>aria.testing</code></h2>", "<code>aria.cli</code>"):  # fmt: skip
        assert links.with_links(text, {"aria.testing": "there"}) == text


def test_what_is_loaded_from_elsewhere_would_be_seen():
    assert Loaded('<link rel="stylesheet" href="https://a.b/c.css"><img src="//a.b/c.png">').found == [
        "https://a.b/c.css",
        "//a.b/c.png",
    ]


def test_formulas_and_roles_of_docstrings_are_shown(site):
    pages = {page.stem: page.read_text() for page in site.glob("api/*.html")}
    assert pages["aria.trackers"].count("<math") > 20
    for name, text in pages.items():
        words = re.sub(r"<[^>]*>", "", text)
        assert not re.search(r":(math|class|func|meth|data|attr|mod):|latex(-display)?:|\.\. math", words), name
        assert not re.search(r"<mi>\\|&gt;&gt;&gt; [^\n]*</p>", text), name


def test_docstrings_become_markdown():
    assert doctest.testmod(mathematics) == (0, 1)
    text = "The bias of :class:`~aria.trackers.EMA`:\n\n.. math:: b^2\n          + c\n\n>>> 1\n1\n\nDone::\n\n    x"
    markdown = mathematics.to_markdown(text)
    assert [line for line in markdown.split("\n") if line] == [
        "The bias of `EMA`:", "`latex-display:b^2 + c`", "```pycon", ">>> 1", "1", "```", "Done:", "    x",
    ]  # fmt: skip
    assert "\n\n`latex-display:b^2 + c`\n\n" in markdown and "\n\n```pycon\n" in markdown and "\n```\n\n" in markdown
    assert mathematics.with_formulas("<code>latex:b^2</code>").startswith("<math")
    assert mathematics.with_formulas("<code>b^2</code>") == "<code>b^2</code>"
