"""Errors of the command line: what the user can fix is one line and exit code 2, never a traceback."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import click

from aria.text import shown, shown_lines


class Refusal(click.ClickException):
    """One line about input that cannot be used; exit code 2."""

    exit_code = 2


@contextmanager
def refusals(place: object = "") -> Iterator[None]:
    """Turn what the user can fix into one line; ``place`` is where files are written, for errors that name none.

    - refused values (``ValueError``), operating-system errors and misused options: :class:`Refusal`, exit code 2;
    - any other exception inside a module that the user named in a spec: its file and line, exit code 1;
    - a package of others that is not installed: what it is needed for, exit code 2;
    - any other exception is a bug of this package and keeps its traceback.
    """
    try:
        yield
    except (click.exceptions.NoArgsIsHelpError, BrokenPipeError):
        raise  # click shows the help for the first; after the second nobody reads the output any more
    except click.UsageError as error:
        see = f" See '{error.ctx.command_path} --help'." if error.ctx is not None else ""
        raise Refusal(one_line(error.format_message()) + see) from error
    except click.ClickException as error:
        if (safe := shown_lines(error.message)) == error.message:
            raise
        quoting = Refusal if error.exit_code == Refusal.exit_code else click.ClickException
        raise quoting(safe) from error
    except (click.Abort, click.exceptions.Exit):
        raise
    except ValueError as error:
        raise Refusal(one_line(error)) from error
    except OSError as error:
        raise Refusal(_system_error(error, place)) from error
    except Exception as error:
        from aria import registry

        line = registry.own_line(error)
        if line is not None:
            raise _failure(line, error) from error
        if not _is_missing_package(error):
            raise
        raise Refusal(one_line(error)) from error


@contextmanager
def failures_of(part: object) -> Iterator[None]:
    """Report an exception as a failure of ``part`` if its class is not one of this package.

    For the code that calls a part: a part that returns the wrong thing makes its caller fail, not itself.
    """
    try:
        yield
    except (click.ClickException, ValueError, OSError):
        raise
    except Exception as error:
        if type(part).__module__.startswith("aria."):
            raise
        from aria import registry

        raise _failure(registry.own_line(error) or f"{type(part).__name__} failed", error) from error


def _is_missing_package(error: Exception) -> bool:
    """Whether an import failed because a package of others is not there."""
    cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
    if not isinstance(error, ImportError) or not isinstance(cause, ModuleNotFoundError):
        return False
    return (cause.name or "").split(".")[0] not in ("aria", "theory", "")


def _failure(where: str, error: Exception) -> click.ClickException:
    return click.ClickException(f"{where}: {type(error).__name__}: {one_line(error)}")


def _system_error(error: OSError, place: object) -> str:
    """
    >>> _system_error(OSError(errno.ENOSPC, "No space left on device"), "out")
    'the disk is full: free some space for out and run the same command again'
    >>> _system_error(FileNotFoundError(errno.ENOENT, "No such file or directory", "a.txt"), "out")
    'a.txt: No such file or directory'
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        target = place or error.filename or "the output"
        return f"the disk is full: free some space for {target} and run the same command again"
    return one_line(f"{error.filename or place or 'file'}: {error.strerror or error}")


def one_line(text: object) -> str:
    """``text`` without its line breaks, and with the escapes of what would act on the terminal.

    >>> one_line("no such thing;\\n  there are: a, b")
    'no such thing; there are: a, b'
    """
    return shown(" ".join(str(text).split()))
