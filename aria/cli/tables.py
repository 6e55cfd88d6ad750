"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence

import click

from aria.text import shown, shown_json, shown_lines

Row = Mapping[str, object]


def echo(text: object, *, err: bool = False) -> None:
    """Print lines for people: the one way in which commands do. What came from a file cannot act on the terminal."""
    click.echo(shown_lines(text), err=err)


def echo_json(value: object, *, indent: int | None = None) -> None:
    """Print a JSON document for programs, safe for a terminal too."""
    click.echo(shown_json(json.dumps(value, ensure_ascii=False, indent=indent)))


def table(rows: Sequence[Row]) -> str:
    """Rows under the names of their columns; numbers with four digits, aligned to the right, unknown values as a dash.

    A column whose name ends in ``plus_minus`` gets the heading ±; ``times_`` at the start of a name becomes ×.

    >>> print(table([{"best_rate": 0.123456, "spec": "ema"}, {"best_rate": None, "spec": "bank"}]))
    best rate  spec
       0.1235  ema
            -  bank
    """
    if not rows:
        return "(none)"
    names = list(rows[0])
    cells = [[_cell(row[name]) for name in names] for row in rows]
    right = [any(isinstance(row[name], int | float) for row in rows) for name in names]
    heads = [re.sub(".*plus_minus", "±", name).replace("times_", "× ").replace("_", " ") for name in names]
    widths = [max(len(head), *(len(row[i]) for row in cells)) for i, head in enumerate(heads)]
    lines = [
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right, strict=True)
        )
        for row in [heads, *cells]
    ]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else shown(value)


def as_json(value: object) -> str:
    """JSON in which every number that is not finite is null.

    >>> as_json({"rate": float("inf"), "spec": "ema"})
    '{"rate": null, "spec": "ema"}'
    """
    return shown_json(json.dumps(_finite(value), ensure_ascii=False))


def _finite(value: object) -> object:
    match value:
        case dict():
            return {name: _finite(item) for name, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case float() if not math.isfinite(value):
            return None
    return value
