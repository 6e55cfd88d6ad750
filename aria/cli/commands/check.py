"""``aria check``: whether a plug-in keeps its contract."""

from __future__ import annotations

from collections.abc import Callable

import click

from aria import specs
from aria.cli import tables
from aria.cli.errors import refusals


@click.command()
@click.argument("kind", type=click.Choice(["allocator", "objective", "partitioner", "tracker"]))
@click.argument("spec")
def command(kind: str, spec: str) -> None:
    """Run the conformance checks on SPEC: a name, module:Class or file.py:Class, with arguments if it needs any.

    Exits with 0 if every check holds, 1 if one fails, 2 if SPEC names nothing.
    """
    specs.check(spec, kind)
    from aria import registry, testing
    from aria.distill.objectives import Objective
    from aria.interfaces import Allocator, Partitioner, Tracker

    bases = {"allocator": Allocator, "objective": Objective, "partitioner": Partitioner, "tracker": Tracker}
    check_part: Callable[[object], None] = getattr(testing, f"check_{kind}")
    with refusals():
        part = registry.resolve(spec, bases[kind])
    try:
        check_part(part)
    except AssertionError as error:
        raise click.ClickException(str(error)) from None
    except Exception as error:  # whatever the part under test raises is a finding, and reported as one
        raise click.ClickException(f"{registry.spec(part)} raised {type(error).__name__}: {error}") from error
    tables.echo(f"{registry.spec(part)} conforms")
