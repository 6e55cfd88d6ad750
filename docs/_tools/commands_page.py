"""The page of the command line, generated from the commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

HEAD = """# Command line

Every command and option, as in `--help`. Errors are one line on stderr; the FAQ lists the
[exit codes](faq.md#what-do-the-exit-codes-mean).
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
        parts += [f"## {name}", _help_text(program)]
        parts += [_command(name, *found) for found in subcommands(program)]
    return "\n\n".join(parts) + "\n"


def subcommands(program: click.Group) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Each command of a program with its name and a context that its parameters are read in."""
    above = click.Context(program)
    for name in program.list_commands(above):
        command = program.get_command(above, name)
        assert command is not None
        yield name, command, click.Context(command, info_name=name, parent=above)


def _command(program: str, name: str, command: click.Command, context: click.Context) -> str:
    usage = " ".join(["$", program, name, *command.collect_usage_pieces(context)])
    parts = [f"### {program} {name}", f"```text\n{usage[2:]}\n```", _help_text(command)]
    rows = [record for param in command.get_params(context) if (record := param.get_help_record(context))]
    table = ["| option | |", "|---|---|", *(f"| `{' '.join(name.split())}` | {_cell(text)} |" for name, text in rows)]
    return "\n\n".join([*parts, "\n".join(table)])


def _help_text(command: click.Command) -> str:
    """The help of a command, up to the form feed that ends it on the screen."""
    return inspect.cleandoc(command.help or "").partition("\f")[0]


def _cell(text: str) -> str:
    """Text for a table cell: one line, with characters escaped that have a meaning in Markdown or HTML."""
    line = " ".join(text.split())
    for sign, escaped in (("|", "\\|"), ("<", "&lt;"), ("*", "\\*"), ("_", "\\_")):
        line = line.replace(sign, escaped)
    return line
