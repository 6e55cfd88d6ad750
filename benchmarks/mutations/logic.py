"""Changes of operators, comparisons, conditions and flags."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

KINDS = ("operator", "comparison", "condition", "flag")
OPERATORS = {
    "+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "%": "*", "**": "*", "&": "|", "|": "&", "^": "&",
    "<<": ">>", ">>": "<<",
}  # fmt: skip
COMPARISONS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not", "is not": "is",
    "in": "not in", "not in": "in",
}  # fmt: skip
CONNECTIVES = {"and": "or", "or": "and"}
SIGNS = {ast.Not: "not ", ast.Invert: "~", ast.USub: "-"}
OPPOSITE = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
"""Comparisons whose change is their negation."""


class Edit(NamedTuple):
    """The position of a literal, the literal and its replacement."""

    line: int
    column: int  # in bytes
    literal: str
    replacement: str


def changes(path: list[ast.AST], source: str) -> Iterator[tuple[str, Edit]]:
    """The changes of the last node of ``path``, with their kinds; code that only raises an error is skipped."""
    node = path[-1]
    if any(isinstance(above, ast.Raise) or getattr(above, "name", "") == "examples" for above in path):
        return
    if isinstance(node, ast.BinOp):
        yield from _between("operator", node.left, node.right, OPERATORS, source)
    elif isinstance(node, ast.Compare):
        for left, right in pairwise([node.left, *node.comparators]):
            yield from _between("comparison", left, right, COMPARISONS, source)
    elif isinstance(node, ast.BoolOp):
        for left, right in pairwise(node.values):
            yield from _between("condition", left, right, CONNECTIVES, source)
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        kind = "operator" if isinstance(node.op, ast.USub) else "condition"
        yield kind, Edit(node.lineno, node.col_offset, SIGNS[type(node.op)], "")
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "flag", Edit(node.lineno, node.col_offset, str(node.value), str(not node.value))
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        tests = [node.test]
    else:
        tests = node.ifs if isinstance(node, ast.comprehension) else []
    for test in tests:
        if not _negated_otherwise(test):
            text = ast.get_source_segment(source, test) or ""
            yield "condition", Edit(test.lineno, test.col_offset, text, f"not ({text})")


def _negated_otherwise(test: ast.expr) -> bool:
    """Whether another change is the negation of this test."""
    if isinstance(test, ast.Compare):
        return len(test.ops) == 1 and isinstance(test.ops[0], OPPOSITE)
    return isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)


def _between(
    kind: str, left: ast.expr, right: ast.expr, table: dict[str, str], source: str
) -> Iterator[tuple[str, Edit]]:
    """Change the symbol between two operands, on whichever line it is."""
    lines = source.encode().split(b"\n")
    for number in range(left.end_lineno, right.lineno + 1):
        first = left.end_col_offset if number == left.end_lineno else 0
        last = right.col_offset if number == right.lineno else None
        text = lines[number - 1][first:last]
        symbol = text.strip(b" ()").decode()
        if symbol in table:
            yield kind, Edit(number, first + text.index(symbol.encode()), symbol, table[symbol])
