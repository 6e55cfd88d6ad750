"""The command ``aria-sim``."""

from __future__ import annotations

import click

from aria.cli.application import Application
from theory import commands


@click.group(cls=Application, package=commands)
@click.version_option(package_name="aria-distill")
def main() -> None:
    """Bounds, limits and simulations of trackers of a moving discrepancy: how accurate they are and how to set them."""


if __name__ == "__main__":
    main()
