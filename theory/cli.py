"""The command ``aria-sim``."""

from __future__ import annotations

import click

from aria.cli.application import Application
from theory import commands


@click.group(cls=Application, package=commands)
@click.version_option(package_name="aria-distill")
def main() -> None:
    """How well does a tracker follow a moving discrepancy, how far from the best, and how should it be set?"""


if __name__ == "__main__":
    main()
