"""``aria plugins``: what a spec string can name."""

from __future__ import annotations

import importlib
import json
from importlib.util import find_spec

import click

FURTHER = ("aria.distill.objectives", "aria.distill.engine.replacement", "aria.tasks")
"""What adds to the kinds of parts, and needs the extra ``distill``."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of the table.")
def command(as_json: bool) -> None:
    """List what a spec string can name, with its arguments: partitioners, trackers, allocators, objectives and more."""
    from aria import registry

    if find_spec("diffusers") is not None:
        for package in FURTHER:
            importlib.import_module(package)
    known = {word: registry.signatures(base) for base, word in registry.KINDS.items()}
    if as_json:
        click.echo(json.dumps(known))
        return
    for kind, parts in known.items():
        click.echo(f"{kind}s")
        for name, arguments in parts.items():
            click.echo(f"  {name}({arguments})")
