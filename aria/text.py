"""Text that came from a file or from a user, made safe for where it is shown: a terminal, a page, a Markdown file.

A prompt, a label or the name of a file may hold any character: some move the cursor of a terminal, change its title or
its colours, others reverse the order in which the rest of a line is read. Those are shown as their escapes.
"""

from __future__ import annotations

import re
import unicodedata

JOINERS = "\u200c\u200d"
"""Of the invisible characters, those that Persian, the scripts of India and emoji are spelled with."""
SIGNS = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
"""Signs of Arabic and other scripts that Unicode counts among the invisible ones although they are visible."""
LINES = "\n\t"


def shown(text: object, *, keep: str = "") -> str:
    """``text`` with every character that would act on a terminal, hide or reorder the rest as its escape.

    These are the Unicode categories Cc, Cf (but for joiners and visible signs), Cs, Co, Cn, Zl and Zp; those in
    ``keep`` stay.

    >>> print(shown("a \\x1b[31mred\\u202e cat\\n"))
    a \\x1b[31mred\\u202e cat\\n
    """
    raw = str(text)
    if raw.isprintable():
        return raw
    return "".join(char if char in keep or _harmless(char) else _escape(char) for char in raw)


def shown_lines(text: object) -> str:
    """The same for text in several lines, such as a table: line breaks and tabs stay.

    >>> print(shown_lines("step 1\\nstep \\x07"))
    step 1
    step \\x07
    """
    return shown(text, keep=LINES)


def shown_json(document: str) -> str:
    """A JSON document of the same value without the characters that :func:`shown` escapes.

    >>> print(shown_json('{"a": "\\u202e"}'))
    {"a": "\\u202e"}
    """
    if document.isprintable():
        return document
    return "".join(
        char if char in LINES or _harmless(char) else "".join(f"\\u{unit:04x}" for unit in _units(char))
        for char in document
    )


def markdown(text: object) -> str:
    """``text`` for a line or a table's cell of Markdown, where it is neither a mark nor HTML.

    >>> print(markdown("a|b `<script>` *c*"))
    a\\|b \\`&lt;script&gt;\\` \\*c\\*
    """
    marked = re.sub(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)", r"\\\g<0>", shown(text))
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _harmless(char: str) -> bool:
    return char.isprintable() or char in JOINERS or ord(char) in SIGNS or unicodedata.category(char) == "Zs"


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _units(char: str) -> list[int]:
    """The UTF-16 code units of a character, which is how JSON escapes it."""
    data = char.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[place : place + 2], "big") for place in range(0, len(data), 2)]
