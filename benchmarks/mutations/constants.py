"""Changes of numbers by 10%, and the rules for numbers that are not changed.

A path is the list of nodes from the module down to the literal.
"""

from __future__ import annotations

import ast
import itertools

RULES = {
    "index": "a whole number that is itself a subscript or a bound of a slice: it names a place, not a size",
    "axis": "a whole number that names an axis: dim=, axis= or the argument of a reduction that stands for it",
    "example": "in examples(): settings offered to the conformance checks, any of which would do",
    "message": "inside a raise statement: part of an error message",
}
"""Literals that are not changed, and the reason."""
AXIS_WORDS = {"dim", "axis"}
AXIS_ARGUMENT = {
    **dict.fromkeys(("sum", "mean", "amax", "amin", "min", "max", "unsqueeze", "unbind", "gather", "scatter"), 0),
    **dict.fromkeys(("stack", "concatenate", "flip", "cumsum"), 1),
    **dict.fromkeys(("flatten", "any", "index_add", "index_select"), 0),
    "moveaxis": None,
}
"""Which positional argument of a call is an axis; None means all but the first. ``-1`` and ``-2`` as ``x.sum(-1)``."""
WHOLE_ARGUMENT = {"range": None, "legendre": 0, "linspace": 2, "geomspace": 2, "zeros": 0, "ones": 0}
"""Which positional argument of a call must be a whole number; None means all."""


def is_number(node: ast.AST) -> bool:
    """Whether a node is a literal number; True and False are not."""
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def change(path: list[ast.AST], source: str) -> tuple[str, str]:
    """The literal and its replacement: 10% more, at least 1 more for integers; 0 becomes 0.1."""
    node = path[-1]
    assert isinstance(node, ast.Constant)
    literal, value = ast.get_source_segment(source, node) or "", node.value
    if isinstance(value, int) and (literal.startswith("0x") or _must_be_whole(path)):
        replacement = str(value + max(1, round(value / 10)))
    else:
        default = isinstance(path[-2], (ast.AnnAssign, ast.arguments))
        changed = 1 - (1 - value) * 1.1 if default and 0.9 < value < 1 else value * 1.1  # stays below 1
        replacement = "0.1" if value == 0 else f"{changed:.12g}"
        if isinstance(value, float) and replacement.isdigit():
            replacement += ".0"
    return literal, replacement


def rule(path: list[ast.AST]) -> str:
    """The name of the rule that excludes this literal, or an empty string."""
    node = path[-1]
    if any(isinstance(above, ast.Raise) for above in path):
        return "message"
    if any(isinstance(above, ast.FunctionDef) and above.name == "examples" for above in path):
        return "example"
    if not isinstance(node.value, int):
        return ""
    child, above = _outside_of_signs(path)
    while isinstance(above, (ast.Tuple, ast.Slice)):
        child, above = above, path[path.index(above) - 1]
    if isinstance(above, ast.Subscript) and above.slice is child:
        return "index"
    child, above = _outside_of_signs(path)
    if isinstance(above, ast.keyword) and above.arg in AXIS_WORDS:
        return "axis"
    if isinstance(above, ast.Call) and child in above.args and _name(above) in AXIS_ARGUMENT:
        # x.sum(-1) and torch.sum(x, -1), but not max(1, n): an axis is written -1, or is 0 after a method.
        which, at = AXIS_ARGUMENT[_name(above)], above.args.index(child)
        builtin = isinstance(above.func, ast.Name)
        if not builtin and (at > 0 if which is None else at == which):
            return "axis"
    return ""


def _must_be_whole(path: list[ast.AST]) -> bool:
    node, above = path[-1], path[-2]
    if isinstance(above, ast.BinOp) and isinstance(above.op, (ast.FloorDiv, ast.Mod, ast.LShift, ast.RShift)):
        return True
    if isinstance(above, ast.AnnAssign):
        return ast.unparse(above.annotation) == "int"
    if isinstance(above, ast.arguments):
        return _annotation_of_default(above, node) == "int"
    if not any(isinstance(outer, ast.FunctionDef) for outer in path):
        return all(type(p.value) is int for p in ast.walk(_statement(path)) if isinstance(p, ast.Constant))
    for call, argument in itertools.pairwise(path):
        if isinstance(call, ast.Subscript) and argument is call.slice:
            return True
        if isinstance(call, ast.Call) and argument in call.args and _name(call) in WHOLE_ARGUMENT:
            which = WHOLE_ARGUMENT[_name(call)]
            return which is None or call.args.index(argument) == which
    return False


def _statement(path: list[ast.AST]) -> ast.AST:
    return next(node for node in reversed(path) if isinstance(node, ast.stmt))


def _outside_of_signs(path: list[ast.AST]) -> tuple[ast.AST, ast.AST]:
    """The literal with its sign, and the node that contains it."""
    return (path[-2], path[-3]) if isinstance(path[-2], ast.UnaryOp) else (path[-1], path[-2])


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _annotation_of_default(arguments: ast.arguments, default: ast.expr) -> str:
    with_default = arguments.args[len(arguments.args) - len(arguments.defaults) :] + arguments.kwonlyargs
    for argument, value in zip(with_default, [*arguments.defaults, *arguments.kw_defaults]):
        if value is default and argument.annotation is not None:
            return ast.unparse(argument.annotation)
    return ""
