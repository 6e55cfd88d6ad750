"""Commands whose ``--help`` explains the columns that they print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click


class ExplainedCommand(click.Command):
    """A command with a section "Columns" at the end of its help: ``columns`` maps each heading to its meaning.

    >>> command = ExplainedCommand("count", columns={"n": "Number of observations."})
    >>> print(command.get_help(click.Context(command, info_name="count")))
    Usage: count [OPTIONS]
    <BLANKLINE>
    Options:
      --help  Show this message and exit.
    <BLANKLINE>
    Columns:
      n  Number of observations.
    """

    def __init__(self, *args: Any, columns: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.columns = columns

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Columns"):
            formatter.write_dl(list(self.columns.items()))
        super().format_epilog(ctx, formatter)
