"""The command ``aria``."""

from __future__ import annotations

import logging
import os
import sys

import click

from aria.cli import commands
from aria.cli.application import Application
from aria.text import shown, shown_lines


class _Stderr(logging.Handler):
    """Shows warnings on standard error, whatever the names of files and the texts in them hold."""

    def emit(self, record: logging.LogRecord) -> None:
        safe = logging.makeLogRecord({**record.__dict__, "msg": shown(record.getMessage()), "args": None})
        sys.stderr.write(f"{shown_lines(self.format(safe))}\n")


_WARNINGS = _Stderr()


@click.group(cls=Application, package=commands)
@click.version_option(package_name="aria-distill")
def main() -> None:
    """Spend the steps of a diffusion distillation on the conditions where the student still disagrees."""
    # it advises on packages that are not missed here; what matters is checked when a folder is opened
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("aria").addHandler(_WARNINGS)
