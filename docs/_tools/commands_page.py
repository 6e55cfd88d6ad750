"""The page of the command line, generated from the commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

HEAD = """# Command line

Every command and option, as in `--help`. Mistakes are reported in one line; see [what exit codes
mean](faq.md#what-do-exit-codes-say).
"""


def programs() -> dict[str, click.Group]:
    """The commands that are installed, by name."""
    from aria.cli import main as aria
    from theory.cli import main as aria_sim

    return {"aria": aria, "aria-sim": aria_sim}


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for name, program in programs().items():
        parts += [f"## {name}", _help(program)]
        parts += [_command(name, *found) for found in subcommands(program)]
    return "\n\n".join(parts) + "\n"


def subcommands(program: click.Group) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Each command of a program, with its name and a context for reading its parameters."""
    above = click.Context(program)
    for name in program.list_commands(above):
        command = program.get_command(above, name)
        assert command is not None
        yield name, command, click.Context(command, info_name=name, parent=above)


def _command(program: str, name: str, command: click.Command, context: click.Context) -> str:
    usage = " ".join(["$", program, name, *command.collect_usage_pieces(context)])
    parts = [f"### {program} {name}", f"```text\n{usage[2:]}\n```", _help(command)]
    groups = getattr(command, "groups", None)
    if groups is None:
        return "\n\n".join([*parts, _table("option", command.get_params(context), context)])
    return "\n\n".join([*parts, *(_table(heading, options, context) for heading, options in groups(context))])


def _table(heading: str, options: list[click.Parameter], context: click.Context) -> str:
    rows = [record for option in options if (record := option.get_help_record(context))]
    lines = [f"| `{' '.join(name.split())}` | {_cell(text)} |" for name, text in rows]
    return "\n".join([f"| {heading} | |", "|---|---|", *lines])


def _help(command: click.Command) -> str:
    """The help of a command, up to the form feed that ends what the terminal shows."""
    return inspect.cleandoc(command.help or "").partition("\f")[0]


def _cell(text: str) -> str:
    """Text for a cell of a table: one line, with the characters escaped that Markdown or HTML would interpret."""
    line = " ".join(text.split())
    for sign, escaped in (("|", "\\|"), ("<", "&lt;"), ("*", "\\*"), ("_", "\\_")):
        line = line.replace(sign, escaped)
    return line
