"""``aria plugins``: what a spec string can name."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of the table.")
def command(as_json: bool) -> None:
    """List the partitioners, trackers and allocators a spec string can name."""
    from aria import registry
    from aria.interfaces import Allocator, Partitioner, Tracker

    kinds: dict[str, type] = {"partitioner": Partitioner, "tracker": Tracker, "allocator": Allocator}
    known = {kind: registry.signatures(cls) for kind, cls in kinds.items()}
    if as_json:
        click.echo(json.dumps(known))
        return
    for kind, parts in known.items():
        click.echo(f"{kind}s")
        for name, arguments in parts.items():
            click.echo(f"  {name}({arguments})")
