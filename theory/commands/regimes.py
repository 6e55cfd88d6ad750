"""``aria-sim regimes``: the named regimes."""

from __future__ import annotations

import click

from aria.cli import options, tables


@click.command("regimes")
@options.as_json
def command(as_json: bool) -> None:
    """List the regimes in which trackers can be simulated.

    A regime determines how the true value moves (the drift), the noise of observations, and which steps observe a
    region (the visits, at every step unless the description says otherwise). The arguments of the three are in
    brackets.
    """
    from theory.regimes import DESCRIBED

    if as_json:
        rows = [
            {"regime": name, "description": named.description, "parameters": named.parameters}
            for name, named in DESCRIBED.items()
        ]
        click.echo(tables.as_json({"regimes": rows}))
        return
    formatter = click.HelpFormatter()
    formatter.write_dl([(name, f"{named.description} [{named.parts}]") for name, named in DESCRIBED.items()])
    click.echo(formatter.getvalue().rstrip())
