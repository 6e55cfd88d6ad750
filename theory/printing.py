"""How the commands of ``aria-sim`` answer: tables, JSON, and one line for whoever mistypes. Loads click alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from aria import whole_file

FIGURES = (".png", ".svg", ".pdf")
"""Endings of the figures that can be written."""

Row = Mapping[str, object]


class Refusal(click.ClickException):
    """One line about what was wrong with the input, and exit code 2."""

    exit_code = 2


class OneLine(click.Command):
    """A command that answers a mistake in one line: one of its own options, a value out of range, a missing file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise Refusal(one_line(error.format_message())) from None
        except ValueError as error:  # of a callback
            raise Refusal(one_line(str(error))) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of the table had enough, which is no mistake
        except OSError as error:
            raise Refusal(f"{error.filename or 'file'}: {error.strerror or error}") from error
        except ValueError as error:  # what the library refuses, it refuses by name in one line
            raise Refusal(one_line(str(error))) from error


@contextmanager
def blamed_on(part: object) -> Iterator[None]:
    """Tells in one line what fails within if ``part`` is somebody's own class; a bug of ours keeps its traceback."""
    try:
        yield
    except (click.ClickException, ValueError, OSError):
        raise
    except Exception as error:
        if type(part).__module__.startswith("aria."):
            raise
        from aria import registry

        where = registry.own_line(error) or f"{type(part).__name__} failed"
        raise click.ClickException(f"{where}: {type(error).__name__}: {one_line(str(error))}") from error


def one_line(text: str) -> str:
    """``text`` without its line breaks.

    >>> one_line("no such thing;\\n  there are: a, b")
    'no such thing; there are: a, b'
    """
    return " ".join(text.split())


def figure(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A click callback: refuses, before anything is computed, a figure that could not be written."""
    if value is None:
        return None
    if Path(value).suffix.lower() not in FIGURES:
        raise click.BadParameter(f"{value!r} must end in one of {', '.join(FIGURES)}")
    whole_file.check_writable(Path(value))
    return value


def table(rows: Sequence[Row]) -> str:
    """Rows under the names of their columns; numbers in four digits and to the right, what is unknown as a dash.

    A column that ends in ``plus_minus`` is headed ±, one that begins with ``times_`` ×.

    >>> click.echo(table([{"best_rate": 0.123456, "spec": "ema"}, {"best_rate": None, "spec": "bank"}]))
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
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def as_json(value: object) -> str:
    """JSON in which what is not a finite number is null.

    >>> as_json({"rate": float("inf"), "spec": "ema"})
    '{"rate": null, "spec": "ema"}'
    """
    return json.dumps(_finite(value), ensure_ascii=False)


def _finite(value: object) -> object:
    match value:
        case dict():
            return {name: _finite(item) for name, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case float() if not math.isfinite(value):
            return None
    return value
