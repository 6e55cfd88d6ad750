"""The command ``aria``."""

from __future__ import annotations

import os

import click

from aria.cli import commands
from aria.cli.application import Application


@click.group(cls=Application, package=commands)
@click.version_option(package_name="aria-distill")
def main() -> None:
    """Spend the steps of a diffusion distillation on the conditions where the student still disagrees."""
    # it advises on packages that are not missed here; what matters is checked when a folder is opened
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

