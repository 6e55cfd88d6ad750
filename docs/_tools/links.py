"""Links from the names of modules in the text of a page to their pages."""

from __future__ import annotations

import re
from collections.abc import Mapping

NAME = re.compile(r"<(a|pre|h\d)\b.*?</\1>|<code>([\w.]+)</code>", re.DOTALL)
"""A name in code, or an element inside which nothing is linked."""


def with_links(page: str, places: Mapping[str, str]) -> str:
    """The HTML of a page, with links from the names that have a page of their own.

    >>> with_links("<code>aria.testing</code>", {"aria.testing": "api/aria.testing.html"})
    '<a href="api/aria.testing.html"><code>aria.testing</code></a>'
    """

    def link(found: re.Match[str]) -> str:
        return f'<a href="{places[found[2]]}">{found[0]}</a>' if found[2] in places else found[0]

    return NAME.sub(link, page)
