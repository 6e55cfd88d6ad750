"""The command ``aria``."""

from __future__ import annotations

import json
from collections.abc import Callable

import click

from aria import registry
from aria.interfaces import Allocator, Partitioner, Tracker

KINDS: dict[str, type] = {"partitioner": Partitioner, "tracker": Tracker, "allocator": Allocator}


@click.group()
@click.version_option(package_name="aria-distill")
def main() -> None:
    """Spend the steps of a diffusion distillation on the conditions where the student still disagrees."""


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of the table.")
def plugins(as_json: bool) -> None:
    """List the partitioners, trackers and allocators a spec string can name."""
    known = {kind: registry.signatures(cls) for kind, cls in KINDS.items()}
    if as_json:
        click.echo(json.dumps(known))
        return
    for kind, parts in known.items():
        click.echo(f"{kind}s")
        for name, arguments in parts.items():
            click.echo(f"  {name}({arguments})")


@main.command()
@click.argument("kind", type=click.Choice(sorted(KINDS)))
@click.argument("spec")
def check(kind: str, spec: str) -> None:
    """Run the conformance checks on SPEC: a name, module:Class or file.py:Class, with arguments if it needs any.

    Exits with 0 if every check holds, 1 if one fails, 2 if SPEC names nothing.
    """
    from aria import testing

    checks: dict[str, tuple[Callable[..., object], Callable[..., None]]] = {
        "partitioner": (registry.partitioner, testing.check_partitioner),
        "tracker": (registry.tracker, testing.check_tracker),
        "allocator": (registry.allocator, testing.check_allocator),
    }
    resolve, check_part = checks[kind]
    try:
        part = resolve(spec)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        check_part(part)
    except AssertionError as error:
        raise click.ClickException(str(error)) from None
    except Exception as error:  # whatever the part under test raises is a finding, and reported as one
        raise click.ClickException(f"{registry.spec(part)} raised {type(error).__name__}: {error}") from error
    click.echo(f"{registry.spec(part)} conforms")


if __name__ == "__main__":
    main()
