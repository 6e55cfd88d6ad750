"""Finds the mutations of a source file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.mutations import constants, logic

KINDS = ("constant", *logic.KINDS)


@dataclass(frozen=True)
class Mutation:
    """One change at one place."""

    file: str
    line: int
    column: int  # in bytes
    function: str
    kind: str
    literal: str  # what is replaced
    replacement: str
    before: str  # the line
    after: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line} {self.function}: {self.before}"

    @property
    def key(self) -> tuple[object, ...]:
        return self.file, self.line, self.column, self.literal, self.replacement

    def apply(self, source: str) -> str:
        return apply(source, self.line, self.column, self.literal, self.replacement)


def apply(source: str, line: int, column: int, literal: str, replacement: str) -> str:
    """``source`` with ``replacement`` where ``literal`` stood."""
    lines = source.encode().splitlines(keepends=True)
    start = sum(map(len, lines[: line - 1])) + column
    text, old = source.encode(), literal.encode()
    if text[start : start + len(old)] != old:
        raise AssertionError(f"line {line} has no {literal!r} at {column}")
    return (text[:start] + replacement.encode() + text[start + len(old) :]).decode()


@dataclass
class Finder:
    """Collects the mutations of a source file, and the literals that a rule skips."""

    file: str
    source: str
    kinds: tuple[str, ...]
    found: list[Mutation] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def walk(self, path: list[ast.AST]) -> None:
        """Visit the last node of ``path`` and its descendants, except annotations, which are not executed."""
        node = path[-1]
        if "constant" in self.kinds and constants.is_number(node):
            rule = constants.rule(path)
            if rule:
                literal = ast.get_source_segment(self.source, node)
                line = self.source.split("\n")[node.lineno - 1].strip()
                self.skipped.append(f"{self.file}:{node.lineno} | {literal} | {rule} | {line}")
            else:
                literal, replacement = constants.change(path, self.source)
                self._add(path, "constant", node.lineno, node.col_offset, literal, replacement)
        for kind, edit in logic.changes(path, self.source):
            if kind in self.kinds:
                self._add(path, kind, *edit)
        for child in _children(node):
            self.walk([*path, child])

    def _add(self, path: list[ast.AST], kind: str, line: int, column: int, literal: str, replacement: str) -> None:
        names = [node.name for node in path if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        changed = apply(self.source, line, column, literal, replacement)
        before, after = (text.split("\n")[line - 1].strip() for text in (self.source, changed))
        function = ".".join(names) or "(module)"
        self.found.append(Mutation(self.file, line, column, function, kind, literal, replacement, before, after))


def _children(node: ast.AST) -> Iterator[ast.AST]:
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            children = value if isinstance(value, list) else [value]
            yield from (child for child in children if isinstance(child, ast.AST))


def find(root: Path, file: str, kinds: tuple[str, ...]) -> Finder:
    """The mutations of these kinds in a file."""
    source = (root / file).read_text()
    finder = Finder(file, source, kinds)
    finder.walk([ast.parse(source)])
    return finder
