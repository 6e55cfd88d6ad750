"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from aria import whole_file

FIGURES = (".png", ".svg", ".pdf")
"""Suffixes of the figures that can be written."""


def figure(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A click callback that refuses a figure that could not be written, before anything is computed."""
    if value is None:
        return None
    if Path(value).suffix.lower() not in FIGURES:
        raise click.BadParameter(f"{value!r} must end in one of {', '.join(FIGURES)}")
    whole_file.check_writable(Path(value))
    return value
