"""A program with subcommands, ``aria`` or ``aria-sim``: one module for each command, imported when it is called."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

import click

from aria import checks
from aria.cli.errors import Refusal, refusals


class Application(click.Group):
    """The commands of a package: ``check_log.py`` with a click command named ``command`` is ``check-log``."""

    def __init__(self, *args: Any, package: ModuleType, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(self.package.__path__))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{self.package.__name__}.{name.replace('-', '_')}")
        assert isinstance(module.command, click.Command)
        return module.command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        known = self.list_commands(ctx)
        if args[0] not in known:
            raise Refusal(f"unknown command {args[0]!r}{checks.hint(args[0], known)}; there are: {', '.join(known)}")
        return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with refusals():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with refusals():
            return super().invoke(ctx)
