"""Turns the names of modules in a page into links to their pages."""

from __future__ import annotations

import re
from collections.abc import Mapping

NAME = re.compile(r"<(a|pre|h\d)\b.*?</\1>|<code>([\w.]+)</code>", re.DOTALL)
"""A name, or markup that stays unchanged."""


def with_links(page: str, places: Mapping[str, str]) -> str:
    """A page's HTML in which names that have a page link to it.

    >>> with_links("<code>aria.testing</code>", {"aria.testing": "api/aria.testing.html"})
    '<a href="api/aria.testing.html"><code>aria.testing</code></a>'
    """

    def link(found: re.Match[str]) -> str:
        return f'<a href="{places[found[2]]}">{found[0]}</a>' if found[2] in places else found[0]

    return NAME.sub(link, page)
