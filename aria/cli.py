"""The command ``aria``."""

from __future__ import annotations

import click

from aria import commands
from aria.command_line import Subcommands


@click.group(cls=Subcommands, package=commands)
@click.version_option(package_name="aria-distill")
def main() -> None:
    """Spend the steps of a diffusion distillation on the conditions where the student still disagrees."""


if __name__ == "__main__":
    main()
