"""What the commands share: discovery, mistakes answered in one line, progress bars."""

from __future__ import annotations

import difflib
import errno
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import click

from aria.cli.progress_lines import lines


class Subcommands(click.Group):
    """One subcommand for each module of a package, loaded when it is called; each module has one ``command``."""

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

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line(), _own_parts():
            return super().invoke(ctx)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[0] not in self.list_commands(ctx):
            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise Mistake(f"unknown command {args[0]!r}{hint}; there are: {', '.join(self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


class Mistake(click.ClickException):
    """What the user can mend, said in one line; exit code 2."""

    exit_code = 2


@contextmanager
def _one_line() -> Iterator[None]:
    """Says what is wrong with the words of a command line in one line, where click takes three and more."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise  # no mistake: it shows the help
    except click.UsageError as error:
        more = f" See '{error.ctx.command_path} --help'." if error.ctx is not None else ""
        raise Mistake(" ".join(error.format_message().split()) + more) from error


@contextmanager
def _own_parts() -> Iterator[None]:
    """Says in one line what fails in a part that a spec named and the user wrote; a bug of ours keeps its traceback."""
    try:
        yield
    except (click.ClickException, click.Abort, click.exceptions.Exit, OSError):
        raise
    except Exception as error:
        from aria import registry

        where = registry.own_line(error)
        if where is None:
            raise
        raise click.ClickException(f"{where}: {type(error).__name__}: {' '.join(str(error).split())}") from error


@contextmanager
def mistakes(place: object = "") -> Iterator[None]:
    """Turns refused values and what the system refuses into a :class:`Mistake`; ``place`` is where files go."""
    try:
        yield
    except ValueError as error:
        raise Mistake(" ".join(str(error).split())) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Mistake(f"the disk is full: free some space for {place} and run the same command again") from error
        raise Mistake(" ".join(f"{error.filename or place}: {error.strerror or error}".split())) from error


@contextmanager
def bar(label: str, *, hidden: bool = False, width: int = 36) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, told (done, total); ``width`` 0 is the whole line. Where standard error is no
    terminal but a pipe, a file or a CI's log, it is lines."""
    if not hidden and not sys.stderr.isatty():
        with lines(label, say=partial(click.echo, err=True)) as progress:
            yield progress
        return
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=hidden, width=width) as shown:

        def progress(done: int, total: int) -> None:
            shown.length = total
            shown.update(done - shown.pos)

        yield progress
