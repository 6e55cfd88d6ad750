"""Self-contained HTML pages: elements that escape their content, tables, figures and images, no script, no network.

>>> page("a < b", section("Regions", table([{"region": 3, "share": 0.25}])))[:15]
'<!DOCTYPE html>'
"""

from __future__ import annotations

import base64
import html as _html
import math
import re
from collections.abc import Mapping, Sequence

from aria.text import shown_lines

STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #5c6570; --paper: #fdfdfc; --line: #d8dce0; --band: #f1f3f5;
        --good: #00664b; --bad: #b34700; --blue: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --soft: #a2abb5; --paper: #15181b; --line: #363c43; --band: #1d2125;
          --good: #35c49a; --bad: #f08a45; --blue: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 72rem; background: var(--paper); color: var(--ink);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; overflow-wrap: anywhere; } h2 { margin-top: 2.5rem; font-size: 1.25rem; }
p, figcaption, summary { max-width: 46rem; } a { color: inherit; } code { font-size: .92em; overflow-wrap: anywhere; }
.soft, figcaption, summary { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.scroll { overflow-x: auto; } .fixed, td.short { white-space: nowrap; }
table { border-collapse: collapse; font-size: .84rem; line-height: 1.35; }
th, td { padding: .25rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
td.long { min-width: 11rem; overflow-wrap: anywhere; }
th { background: var(--band); font-weight: 600; } thead th { vertical-align: bottom; }
th.number, td.number { text-align: right; } td.number { white-space: nowrap; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; } figcaption { margin-bottom: .5rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 1rem 1.5rem; }
svg { display: block; width: 100%; max-width: 36rem; height: auto; color: var(--ink); }
svg text { fill: currentColor; }
img { display: block; max-width: 100%; height: auto; }
details { margin-top: .5rem; } summary { cursor: pointer; }
.pairs td { overflow-wrap: anywhere; }
""".strip()
"""Readable on paper, on a dark screen and on a narrow one: wide tables scroll in frames of their own, panels of figures
are stacked, and figures take their ink from the page. Long text takes the width that the other columns leave."""
LONG = 24
"""Letters in a cell from which on the text of its column is wrapped."""


class Html(str):
    """Text that is HTML already and is not escaped again."""


def text(value: object) -> Html:
    """Any value as escaped text; :class:`Html` is left as it is. Characters that would hide or reorder others are shown
    as their escapes.

    >>> text("a < b")
    'a &lt; b'
    """
    return value if isinstance(value, Html) else Html(_html.escape(shown_lines(value), quote=True))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """An element. In attribute names a trailing underscore is dropped (``class_``), other underscores become hyphens.

    >>> tag("td", "a < b", class_="number")
    '<td class="number">a &lt; b</td>'
    """
    return Html(f"<{name}{_shown(attributes)}>{''.join(map(text, children))}</{name}>")


def table(rows: Sequence[Mapping[str, object]]) -> Html:
    """Rows under the names of their columns; numbers in four digits and aligned right, missing values as a dash.

    >>> table([{"rate": 0.123456, "spec": "ema"}])  # doctest: +ELLIPSIS
    '<div class="scroll"><table><thead><tr><th class="number">rate</th><th class="short">spec</th></tr></thead>...'
    """
    if not rows:
        return tag("p", "(none)")
    kinds = {name: kind([row[name] for row in rows]) for name in rows[0]}
    head = [tag("th", name, class_=kinds[name]) for name in kinds]
    body = [tag("tr", *(tag("td", _cell(row[name]), class_=kinds[name]) for name in kinds)) for row in rows]
    return tag("div", tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body)), class_="scroll")


def kind(column: Sequence[object]) -> str:
    """How a column is set: "number", or text that is "short" or "long".

    >>> kind([None, 0.5]), kind(["ema"]), kind(["regions, all equally likely"])
    ('number', 'short', 'long')
    """
    if any(isinstance(value, int | float) and not isinstance(value, bool) for value in column):
        return "number"
    words = (re.sub("<[^>]*>", "", value) if isinstance(value, Html) else str(value) for value in column)
    return "long" if max(map(len, words), default=0) > LONG else "short"


def number(value: float) -> str:
    """A number in four digits; what is zero has no sign.

    >>> number(0.123456), number(-0.0)
    ('0.1235', '0')
    """
    return f"{value:z.4g}"


def pairs(facts: Mapping[str, object]) -> Html:
    """Names beside their values.

    >>> pairs({"steps": 800})
    '<table class="pairs"><tbody><tr><th>steps</th><td>800</td></tr></tbody></table>'
    """
    rows = [tag("tr", tag("th", name), tag("td", value)) for name, value in facts.items()]
    return tag("table", tag("tbody", *rows), class_="pairs")


def figure(panels: Sequence[str], caption: object, label: str) -> Html:
    """``<svg>`` elements under their caption, side by side where there is room; ``label`` describes them in words."""
    shown = tag("div", *map(Html, panels), class_="panels", role="img", aria_label=label)
    return tag("figure", tag("figcaption", caption), shown)


def image(data: bytes, caption: str) -> Html:
    """A PNG or a WebP under its caption, embedded in the page."""
    kind = "webp" if data[8:12] == b"WEBP" else "png"
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return tag("figure", tag("figcaption", caption), Html(f"<img{_shown({'src': source, 'alt': caption})}>"))


def section(title: str, *children: object) -> Html:
    """A section of a page under its title."""
    return tag("section", tag("h2", title), *children)


def details(summary: str, *children: object, open: bool = False) -> Html:
    """Content that is shown when its summary is clicked."""
    return tag("details", tag("summary", summary), *children, **({"open": "open"} if open else {}))


def page(title: str, *sections: object) -> Html:
    """A whole document with its style inside; it runs no script and loads nothing."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{text(title)}</title>'
    head += f"\n<style>\n{STYLE}\n</style>"
    body = tag("body", tag("h1", title), *sections)
    return Html(f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n{body}\n</html>\n')


def _shown(attributes: Mapping[str, object]) -> str:
    return "".join(f' {key.rstrip("_").replace("_", "-")}="{text(value)}"' for key, value in attributes.items())


def _cell(value: object) -> object:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return number(value) if isinstance(value, float) else value
