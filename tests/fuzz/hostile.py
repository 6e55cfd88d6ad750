"""Files and words as users and broken disks may leave them, and the one way in which a command may refuse them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
from click.testing import CliRunner
from hypothesis import strategies as st

from aria.cli.errors import refusals

LONGEST = 400
"""Random bytes of a file."""

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["", " ", "latest", "none", "ema(rate=0.1)", "__class__", "\x00", "1e400", "🦊"]),
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
"""Any JSON value, nested a little."""
NO_FLOAT = 10**400
"""A whole number that no float holds."""
DEEP = (b"[" * 20_000, b'{"a":' * 10_000, b"(" * 20_000)
"""Nested too deeply for a recursive parser."""


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file after a few accidents: bytes changed, put in, lost, repeated, or the end cut off."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        match draw(st.sampled_from(["change", "insert", "lose", "repeat", "cut"])):
            case "change":
                data[start:end] = draw(st.binary(min_size=end - start, max_size=end - start))
            case "insert":
                data[start:start] = draw(st.binary(max_size=12))
            case "lose":
                del data[start:end]
            case "repeat":
                data[start:start] = data[start:end] * draw(st.integers(1, 50))
            case "cut":
                del data[start:]
    return bytes(data)


def files(*examples: bytes) -> st.SearchStrategy[bytes]:
    """Any bytes, and examples after accidents."""
    odd = st.sampled_from([b"9" * 5000, b"\xef\xbb\xbf", b"\xff\xfe"])
    return st.one_of(st.binary(max_size=LONGEST), odd, *(mutated(example) for example in examples))


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def exit_code_of(command: click.Command, words: Sequence[str | Path], *, allowed: tuple[int, ...] = (0, 2)) -> int:
    """The exit code of a command that succeeds, or prints one line with what is wrong."""
    result = CliRunner().invoke(command, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in allowed, result.output
    if result.exit_code == 2:
        usage, _, message = result.stderr.rpartition("Error: ")
        assert result.stdout == "" and message.strip() and "\n" not in message.strip("\n"), result.output
        assert usage == "" or usage.startswith("Usage: "), result.output
    return result.exit_code


class Tried:
    """Within ``with Tried() as tried``: success, or a mistake in one line as a command would print it."""

    refused: str | None = None

    def __enter__(self) -> Tried:
        self.guard = refusals("the file")
        self.guard.__enter__()
        return self

    def __exit__(self, kind, error, trace) -> bool:
        try:
            return bool(self.guard.__exit__(kind, error, trace))
        except click.ClickException as mistake:
            refusal = mistake
        assert refusal.exit_code == 2
        assert refusal.message.strip() and "\n" not in refusal.message
        self.refused = refusal.message
        return True
