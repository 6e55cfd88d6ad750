"""``aria plugins``: the names that a spec string can use."""

from __future__ import annotations

from importlib.util import find_spec

import click

from aria.cli import options, tables

EXTRA = ("aria.distill.", "aria.tasks")
"""Where parts live that need the extra ``distill``."""


@click.command()
@options.as_json
def command(as_json: bool) -> None:
    """List the names that a spec string can use, with their arguments: trackers, allocators, objectives and more."""
    from aria import specs

    extra = find_spec("diffusers") is not None
    kinds = [kind for kind in specs.KINDS if extra or not kind.home.startswith(EXTRA)]
    known = {kind.word: specs.signatures(kind) for kind in kinds}
    if as_json:
        tables.echo_json(known)
        return
    for word, parts in known.items():
        tables.echo(f"{word}s")
        for name, arguments in parts.items():
            tables.echo(f"  {name}({arguments})")
