"""The command ``aria-sim``."""

from __future__ import annotations

import importlib
import pkgutil

import click

from theory import commands


class Subcommands(click.Group):
    """One subcommand for each module of :mod:`theory.commands`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(commands.__path__))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"theory.commands.{name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=Subcommands)
@click.version_option(package_name="aria-distill")
def main() -> None:
    """How well does a tracker follow a moving discrepancy, how far from the best, and how should it be set?"""


if __name__ == "__main__":
    main()
