r"""Converts docstrings (reStructuredText roles, directives and doctests, LaTeX formulas) to Markdown.

Formulas pass through Markdown as code with a prefix, and become MathML in the finished page, which browsers display
without any script.

>>> to_markdown(":math:`b^2` of :class:`~aria.trackers.EMA`")
'`latex:b^2` of `EMA`'
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import griffe

INLINE, DISPLAY = "latex:", "latex-display:"
ROLE = re.compile(r":(?:class|func|meth|data|attr|mod):`~?([^`]+)`")
FORMULA = re.compile(r":math:`([^`]+)`")
MARKED = re.compile(r"<code>(latex|latex-display):(.*?)</code>", re.DOTALL)


class Docstrings(griffe.Extension):
    """Convert every docstring to Markdown before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(text: str) -> str:
    """A docstring, cleaned of its indentation, as Markdown."""
    return "\n".join(_blocks(text.splitlines()))


def _blocks(lines: list[str]) -> list[str]:
    """Directives, doctests and tables as Markdown blocks; empties ``lines``."""
    blocks: list[str] = []
    while lines:
        line = lines.pop(0)
        indent, text = _indent(line), line.lstrip()
        if text.startswith(".. math::"):
            more = _taken(lines, partial(_below, indent))
            formula = " ".join(" ".join([text.removeprefix(".. math::"), *more]).split())
            blocks += ["", f"{indent}`{DISPLAY}{formula}`", ""]
        elif text.startswith((">>> ", "=====")):
            language = "pycon" if text.startswith(">") else "text"
            blocks += ["", f"{indent}```{language}", line, *_taken(lines, _filled), f"{indent}```", ""]
        else:
            paragraph = [line, *_taken(lines, lambda following: _filled(following) and not _special(following))]
            blocks.append(_inline("\n".join(paragraph)))
    return blocks


def _taken(lines: list[str], belongs: Callable[[str], bool]) -> list[str]:
    """The first lines that belong, removed from ``lines``."""
    taken = []
    while lines and belongs(lines[0]):
        taken.append(lines.pop(0))
    return taken


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _below(indent: str, line: str) -> bool:
    return not line.strip() or len(_indent(line)) > len(indent)


def _filled(line: str) -> bool:
    return bool(line.strip())


def _special(line: str) -> bool:
    return line.lstrip().startswith((".. math::", ">>> ", "====="))


def _inline(text: str) -> str:
    text = FORMULA.sub(lambda found: f"`{INLINE}{' '.join(found[1].split())}`", text)
    text = ROLE.sub(lambda found: f"`{found[1].split('.')[-1] if '~' in found[0] else found[1]}`", text)
    return re.sub(r"::$", ":", text, flags=re.MULTILINE)


def with_formulas(page: str) -> str:
    """A page's HTML with MathML for every formula."""
    return MARKED.sub(_formula, page)


def _formula(found: re.Match[str]) -> str:
    from latex2mathml.converter import convert

    latex = html.unescape(found[2]).replace(r"\arg", r"\operatorname{arg}")  # which the converter does not support
    return convert(latex, display="block" if found[1] == "latex-display" else "inline")
