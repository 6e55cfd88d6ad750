"""Does the test suite notice when a constant of a tracker, an allocator, a bound or a limit is off by ten per cent?

    python benchmarks/mutations.py                        # all of them, about half an hour on two idle cores
    python benchmarks/mutations.py --only ucb.py          # those whose place contains the text
    python benchmarks/mutations.py --operators            # also + for -, * for / and < for <=
    python benchmarks/mutations.py --source my.py --tests test_my.py --root FOLDER --output my.json

Every numeric literal is multiplied by 1.1 in turn: the next whole number where only whole numbers make sense, and 0
becomes 0.1. A default between 0.9 and 1 must stay below 1, so it is its distance to 1 that grows. The tests that belong
to the file run first, up to the first failure; where they pass, the rest of the suite follows. What survives must be
listed, with its reason, in ``EQUIVALENT`` below; else the exit code is 1.

This process imports the libraries once and forks for every mutant, so that a mutant costs a fraction of a second more
than its tests. The child loads the changed source in place of the file: nothing is written into the working tree.
Tests that start other processes see the shipped code there, and are left out. Results are kept as they come; a second
run repeats only what survived, or what belongs to a file that has changed since.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import hashlib
import importlib
import importlib.util
import itertools
import json
import math
import os
import platform
import resource
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
PRELOAD = (
    "torch", "safetensors.torch", "hypothesis.extra.numpy", "scipy.special", "scipy.stats", "scipy.optimize",
    "scipy.integrate",
)  # fmt: skip
OWN_TESTS = {
    "aria/trackers": ("tests/trackers",),
    "aria/allocators": ("tests/allocators",),
    "theory/bounds": tuple(f"tests/theory/test_{name}.py" for name in ("constants*", "bounds_*", "limits")),
    "theory": tuple(f"tests/theory/test_{name}.py" for name in ("constants*", "limits", "bounds_*")),
}
"""Where the tests of a folder's files lie; a file's own doctest and the tests that bear its name come first."""
SOURCES = ("aria/trackers/*.py", "aria/allocators/*.py", "theory/bounds/*.py", "theory/limits.py")
NOT_SOURCES = ("conformance.py",)
LEFT_OUT = {
    "tests/test_architecture.py": "reads the sources, not what they compute",
    "tests/samplers/test_ranks.py": "starts other processes, which run the shipped code",
    "tests/test_examples.py": "starts other processes, which run the shipped code",
    "tests/test_mutations.py": "starts other processes, which run the shipped code",
    "tests/theory/test_claims.py": "measures by simulation what the bounds' own tests compute",
    "tests/theory/test_commands.py": "measures by simulation what the bounds' own tests compute",
    "tests/theory/claims": "measures by simulation what the bounds' own tests compute",
    "theory/claims": "measures by simulation what the bounds' own tests compute",
    "theory/commands": "measures by simulation what the bounds' own tests compute",
}


@dataclass(frozen=True)
class Equivalent:
    """Literals of ``file`` inside ``fragment``, a part of a line, that may change: the ``reason`` why."""

    file: str
    fragment: str
    reason: str


THOMPSON = "aria/allocators/thompson.py"
NUMERICS = "theory/bounds/_numerics.py"
LIMITS = "theory/limits.py"
ACCURACY = "accuracy of the quadrature: the error stays far below the documented 3e-8"
UNUSED = "keeps a division or a logarithm defined where its result is not used"
TINY = "keeps a division by 0 away: what it stands for is either 0 or far larger"
DIGITS = "range and fineness of a sum that converges exponentially: right to all digits that matter"
GUESS = "a first guess, put right by the comparisons that follow"
SHIFT = "moves the optimum by a thirtieth of a step; the better of the whole numbers around it stays the same"
FASTER = "more steps of a search that has already converged to the last digit"
SEARCH = "where a search looks and how finely: it is refined to the supremum, any point of which is a valid bound"
EQUIVALENT: tuple[Equivalent, ...] = (
    Equivalent("aria/trackers/bank.py", "clamp(max=1e3)", "a weight of e^-1000 is 0 in float64, as is one of e^-1100"),
    Equivalent("aria/trackers/window.py", "stats.n > 0", "counts are whole numbers: none lies between 0 and 1"),
    Equivalent("aria/allocators/softmax.py", "(ratio - 1)", "a common factor of all weights, which have no scale"),
    Equivalent("aria/allocators/top_fraction.py", "- 1e-9", "allows for rounding, which is a millionth of it"),
    Equivalent(THOMPSON, "(scale == 0)", "any unit will do, and where the scale is 0 the quadrature is not used"),
    Equivalent(THOMPSON, "REACH = 8.5", ACCURACY),
    Equivalent(THOMPSON, "NEGLIGIBLE = -25.0", ACCURACY),
    Equivalent(THOMPSON, "RESOLUTION = 1e-8", ACCURACY),
    Equivalent(THOMPSON, "CHUNK = 2**17", "how many nodes are added up at a time: the sum is the same"),
    Equivalent(THOMPSON, "width.masked_fill(~playing, 0)", "who does not play has mean -inf, whatever its width"),
    Equivalent(THOMPSON, "start = 0.1", ACCURACY),
    Equivalent(THOMPSON, "range(0, nodes", "the integrand vanishes at the first node: " + ACCURACY),
    Equivalent(THOMPSON, "(node + 0.5)", "equidistant nodes of a smooth integrand may be shifted: " + ACCURACY),
    Equivalent(THOMPSON, "nan_to_num(nan=0.0)", "NaN only where nothing plays, and there the result is not used"),
    Equivalent(THOMPSON, "1e-14", ACCURACY),
    Equivalent(THOMPSON, "clamp(min=1e-300)", TINY),
    Equivalent(THOMPSON, "range(20)", ACCURACY),
    Equivalent(NUMERICS, "big - small, 1.0)", UNUSED),
    Equivalent(NUMERICS, "np.where(big > 0, big, 1.0)", UNUSED),
    Equivalent(NUMERICS, "same = np.where(exponent == 0,", "at exponent 0 the other branch is 0 as well"),
    Equivalent(NUMERICS, "np.where(noisy, sigma, 1.0)", UNUSED),
    Equivalent(NUMERICS, "-740.0", "no float64 above 0 lies below e^-745"),
    Equivalent(NUMERICS, "range(80)", FASTER),
    Equivalent(NUMERICS, "left > 0", "whole numbers: none lies between 0 and 1"),
    Equivalent(NUMERICS, "np.maximum(steps - EXACT_STEPS, 0.0)", "used only where more steps than that are asked for"),
    Equivalent("theory/bounds/allocation.py", "np.where(drawn, q, 1.0)", UNUSED),
    Equivalent("theory/bounds/asynchronous.py", "np.where(np.isfinite(t), t, 0.0)", UNUSED),
    Equivalent("theory/bounds/asynchronous.py", ", 1.0, b)", UNUSED),
    Equivalent("theory/bounds/bank.py", "np.where(fades, lam, 0.5)", UNUSED),
    Equivalent("theory/bounds/detector.py", "np.where(at_once, 2 * log_s, log_f)", UNUSED),
    Equivalent("theory/bounds/ema.py", ", 1.0, rate)", UNUSED),
    Equivalent("theory/bounds/kalman.py", ", 1.0, rate)", UNUSED),
    Equivalent("theory/bounds/kalman.py", "np.where(known, information, 1.0)", UNUSED),
    Equivalent("theory/bounds/linear.py", "np.where(finite, t, 1.0)", UNUSED),
    Equivalent("theory/bounds/radius.py", "np.where(known, n, 1.0)", UNUSED),
    Equivalent("theory/bounds/radius.py", "np.where(every, 0.5, q)", UNUSED),
    Equivalent("theory/bounds/radius.py", "-40.0", SEARCH),
    Equivalent("theory/bounds/radius.py", "36.0", SEARCH),
    Equivalent("theory/bounds/radius.py", "range(80)", FASTER),
    Equivalent("theory/bounds/radius.py", "(high - low) / 3", SEARCH),
    Equivalent("theory/bounds/radius.py", "np.minimum(exponent, 0.0)", "it tends to 0 with θ: cuts only rounding"),
    Equivalent("theory/bounds/radius.py", "EXACT_TERMS = 64", "the rest is an integral that bounds it, from wherever"),
    Equivalent("theory/bounds/radius.py", "legendre(40)", "nodes of a quadrature that is right to all digits"),
    Equivalent("theory/bounds/radius.py", "u > 1e-300", UNUSED),
    Equivalent("theory/bounds/radius.py", "1e-300, u, 1.0)", UNUSED),
    Equivalent("theory/bounds/radius.py", "1 / q_)", "where the range of the integral is nothing"),
    Equivalent("theory/bounds/radius.py", "rest = np.where(b == 1,", "0 over infinity is 0 as well"),
    Equivalent("theory/bounds/radius.py", "-1 + 1e-16", UNUSED),
    Equivalent("theory/bounds/radius.py", "700.0", "e^700 is beyond any radius that is the least of several"),
    Equivalent("theory/bounds/radius.py", "around = 1 / (2 * b * np.log(2 * t * k / failure))", SEARCH),
    Equivalent("theory/bounds/radius.py", "np.geomspace(0.25, 8.0, 80)", SEARCH),
    Equivalent("theory/bounds/window.py", "np.where(moves, rho, 1.0)", UNUSED),
    Equivalent("theory/bounds/window.py", "np.where(moves, optimum, 1.0)", UNUSED),
    Equivalent("theory/bounds/window.py", "rest = np.ceil(t / 2)", "such a share of the way forgets all"),
    Equivalent("theory/bounds/window.py", "sign = 1.0 if when == \"now\" else -1.0", SHIFT),
    Equivalent(LIMITS, "np.where(q == 1,", "at q = 1 the search finds no more than the exact value either"),
    Equivalent(LIMITS, "np.where(still, 2.0,", UNUSED),
    Equivalent(LIMITS, "np.where(alone, 1.0, total)", UNUSED),
    Equivalent(LIMITS, "np.where(moves, d, 1.0)", UNUSED),
    Equivalent(LIMITS, "np.isfinite(target), target, 1.0)", UNUSED),
    Equivalent(LIMITS, "np.maximum(np.floor(np.cbrt(6 * finite)), 1.0)", GUESS),
    Equivalent(LIMITS, "range(2)", GUESS),
    Equivalent(LIMITS, "<= 6 * finite, j + 1, j)", GUESS),
    Equivalent(LIMITS, "np.where((j - 1) * j * (j + 1) > 6 * finite, j - 1, j)", "undoes a step too far"),
    Equivalent(LIMITS, "np.linspace(-9, 9, 721)", DIGITS),
    Equivalent(LIMITS, "np.linspace(-16, 16, 641)", DIGITS),
    Equivalent(LIMITS, "np.minimum(evidence, 100.0)", "beyond, the factor e^(-v/2) is below 1e-21"),
    Equivalent(LIMITS, "np.minimum(evidence, 50.0)", "beyond, the result is not used"),
    Equivalent(LIMITS, "0.25 * min(np.sqrt(goal), 1.0) if not first else 0.9", SEARCH),
    Equivalent(LIMITS, "np.geomspace(low, 4 * max(1.0, (6 * goal) ** (1 / 3)), 200)", SEARCH),
    Equivalent(LIMITS, "range(4)", SEARCH),
    Equivalent(LIMITS, "grid[max(top - 1, 0)], grid[min(top + 1, grid.size - 1)], 40)", SEARCH),
    Equivalent(LIMITS, "np.arange(-21.0, 4.0,", DIGITS),
    Equivalent(LIMITS, "np.geomspace(0.4 * middle, 4 * max(middle, 2 / q), 100 if middle < 50 else 24)", SEARCH),
    Equivalent(LIMITS, "float(_width(np.asarray(1 / (q * scale))))", SEARCH),
    Equivalent(LIMITS, "range(3)", SEARCH),
    Equivalent(LIMITS, "grid[max(top - 1, 0)], grid[min(top + 1, grid.size - 1)], 12)", SEARCH),
    Equivalent(LIMITS, "-1 + 1e-16", UNUSED),
    Equivalent(LIMITS, "DIRECT_AGES = 500", "from where on ages are added by quadrature, to the same sum"),
    Equivalent(LIMITS, "legendre(200)", DIGITS),
    Equivalent(LIMITS, "terms(np.zeros(1))[:, 0]", "age 0, of which the first column is taken"),
)

RULES = {
    "index": "a whole number that is itself a subscript or a bound of a slice: it names a place, not a size",
    "axis": "a whole number that names an axis: dim=, axis= or the argument of a reduction that stands for it",
    "example": "in examples(): settings offered to the conformance checks, any of which would do",
    "message": "inside a raise statement: part of what an error says",
}
"""What is left alone, and why."""
AXIS_WORDS = {"dim", "axis"}
AXIS_ARGUMENT = {
    **dict.fromkeys(("sum", "mean", "amax", "amin", "min", "max", "unsqueeze", "unbind", "gather", "scatter"), 0),
    **dict.fromkeys(("stack", "concatenate", "flip", "cumsum"), 1),
    "moveaxis": None,
}
"""Which positional argument of a call is an axis; None means all but the first. ``-1`` and ``-2`` as ``x.sum(-1)``."""
WHOLE_ARGUMENT = {"range": None, "legendre": 0, "linspace": 2, "geomspace": 2, "zeros": 0, "ones": 0}
"""Which positional argument of a call must be a whole number; None means all."""
OPERATORS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}
COMPARISONS = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">"}


@dataclass(frozen=True)
class Mutation:
    """One change of one line."""

    file: str
    line: int
    column: int  # in bytes
    function: str
    literal: str  # what is replaced
    replacement: str
    before: str
    after: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line} {self.function}: {self.before}"

    @property
    def key(self) -> tuple[object, ...]:
        return self.file, self.line, self.column, self.literal, self.replacement

    def apply(self, source: str) -> str:
        lines = source.encode().split(b"\n")
        line, end = lines[self.line - 1], self.column + len(self.literal.encode())
        lines[self.line - 1] = line[: self.column] + self.replacement.encode() + line[end:]
        return b"\n".join(lines).decode()


@dataclass
class Result:
    """What became of a mutant: killed, timeout, crashed, survived, or equivalent (survived, and listed)."""

    status: str
    test: str = ""
    error: str = ""
    seconds: float = 0.0


# ------------------------------------------------------------------------------------------------ finding the constants


@dataclass
class Finder(ast.NodeVisitor):
    """All literals of a source file, each changed or skipped by a rule."""

    file: str
    source: str
    operators: bool = False
    found: list[Mutation] = field(default_factory=list)
    skipped: list[dict[str, object]] = field(default_factory=list)
    _path: list[ast.AST] = field(default_factory=list)

    def visit(self, node: ast.AST) -> None:
        self._path.append(node)
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            self._literal(node)
        elif self.operators and isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            self._operator(node.left, node.right, OPERATORS[type(node.op)])
        elif self.operators and isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
            self._operator(node.left, node.comparators[0], COMPARISONS[type(node.ops[0])])
        self.generic_visit(node)
        self._path.pop()

    def _function(self) -> str:
        names = [node.name for node in self._path if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        return ".".join(names) or "(module)"

    def _add(self, line: int, column: int, literal: str, replacement: str) -> None:
        text = self.source.split("\n")[line - 1]
        change = Mutation(self.file, line, column, self._function(), literal, replacement, text.strip(), "")
        after = change.apply(self.source).split("\n")[line - 1].strip()
        self.found.append(Mutation(**(asdict(change) | {"after": after})))

    def _literal(self, node: ast.Constant) -> None:
        literal = ast.get_source_segment(self.source, node) or ""
        rule = self._rule(node)
        if rule:
            line = self.source.split("\n")[node.lineno - 1].strip()
            self.skipped.append({"place": f"{self.file}:{node.lineno}", "literal": literal, "rule": rule, "line": line})
            return
        value = node.value
        if isinstance(value, int) and self._must_be_whole(node):
            replacement = str(value + max(1, round(value / 10)))
        else:
            default = isinstance(self._path[-2], (ast.AnnAssign, ast.arguments))
            changed = 1 - (1 - value) * 1.1 if default and 0.9 < value < 1 else value * 1.1
            replacement = "0.1" if value == 0 else f"{changed:.12g}"
            if isinstance(value, float) and replacement.isdigit():
                replacement += ".0"
        self._add(node.lineno, node.col_offset, literal, replacement)

    def _operator(self, left: ast.expr, right: ast.expr, replacement: str) -> None:
        """Change the operator between two operands that stand on one line."""
        if left.end_lineno != right.lineno:
            return
        line = self.source.split("\n")[right.lineno - 1].encode()
        between = line[left.end_col_offset : right.col_offset]
        symbol = between.strip(b" ()").decode()
        if symbol:
            self._add(right.lineno, left.end_col_offset + between.index(symbol.encode()), symbol, replacement)

    def _rule(self, node: ast.Constant) -> str:
        """The rule that says to leave this literal alone, or nothing."""
        if any(isinstance(above, ast.Raise) for above in self._path):
            return "message"
        if any(isinstance(above, ast.FunctionDef) and above.name == "examples" for above in self._path):
            return "example"
        if not isinstance(node.value, int):
            return ""
        child, above = self._outside_of_signs()
        while isinstance(above, (ast.Tuple, ast.Slice)):
            child, above = above, self._path[self._path.index(above) - 1]
        if isinstance(above, ast.Subscript) and above.slice is child:
            return "index"
        child, above = self._outside_of_signs()
        if isinstance(above, ast.keyword) and above.arg in AXIS_WORDS:
            return "axis"
        if isinstance(above, ast.Call) and child in above.args and _name(above) in AXIS_ARGUMENT:
            # x.sum(-1) and torch.sum(x, -1), but not max(1, n): an axis is written -1, or is 0 after a method.
            which, at = AXIS_ARGUMENT[_name(above)], above.args.index(child)
            builtin = isinstance(above.func, ast.Name)
            if not builtin and (at > 0 if which is None else at == which):
                return "axis"
        return ""

    def _must_be_whole(self, node: ast.Constant) -> bool:
        above = self._path[-2]
        if isinstance(above, ast.BinOp) and isinstance(above.op, (ast.FloorDiv, ast.Mod)):
            return True
        if isinstance(above, ast.AnnAssign):
            return ast.unparse(above.annotation) == "int"
        if isinstance(above, ast.arguments):
            return _annotation_of_default(above, node) == "int"
        if not any(isinstance(node, ast.FunctionDef) for node in self._path):
            return all(type(p.value) is int for p in ast.walk(self._statement()) if isinstance(p, ast.Constant))
        for call, argument in itertools.pairwise(self._path):
            if isinstance(call, ast.Subscript) and argument is call.slice:
                return True
            if isinstance(call, ast.Call) and argument in call.args and _name(call) in WHOLE_ARGUMENT:
                which = WHOLE_ARGUMENT[_name(call)]
                return which is None or call.args.index(argument) == which
        return False

    def _statement(self) -> ast.AST:
        return next(node for node in reversed(self._path) if isinstance(node, ast.stmt))

    def _outside_of_signs(self) -> tuple[ast.AST, ast.AST]:
        """The literal with its sign, and what holds it."""
        if isinstance(self._path[-2], ast.UnaryOp):
            return self._path[-2], self._path[-3]
        return self._path[-1], self._path[-2]


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _annotation_of_default(arguments: ast.arguments, default: ast.expr) -> str:
    with_default = arguments.args[len(arguments.args) - len(arguments.defaults) :] + arguments.kwonlyargs
    for argument, value in zip(with_default, [*arguments.defaults, *arguments.kw_defaults]):
        if value is default and argument.annotation is not None:
            return ast.unparse(argument.annotation)
    return ""


def find(root: Path, file: str, operators: bool = False) -> Finder:
    """The constants of a file."""
    source = (root / file).read_text()
    finder = Finder(file, source, operators)
    finder.visit(ast.parse(source))
    return finder


def _same(first: str, second: str) -> int:
    """How many characters two texts begin with in common."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second)))


def reason(mutation: Mutation) -> str:
    """Why a mutant may survive, or nothing."""
    for entry in EQUIVALENT:
        if entry.file == mutation.file and entry.fragment in mutation.before:
            first = mutation.before.index(entry.fragment)
            at = _same(mutation.before, mutation.after) - _same(mutation.literal, mutation.replacement)
            if first <= at < first + len(entry.fragment):
                return entry.reason
    return ""


# -------------------------------------------------------------------------------------------------- running the tests


class Overlay(MetaPathFinder, Loader):
    """Loads one module from changed source, as if its file held it."""

    def __init__(self, root: Path, file: str, source: str) -> None:
        self.path = root / file
        package = self.path.name == "__init__.py"
        self.name = ".".join(Path(file).with_suffix("").parts[: -1 if package else None])
        self.source, self.folder = source, [str(self.path.parent)] if package else None
        self.used = False

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=self, submodule_search_locations=self.folder
        )

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        self.used = True
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)

    def is_package(self, fullname: str) -> bool:
        return self.folder is not None

    def get_source(self, fullname: str) -> str:
        return self.source


class FirstFailure:
    """A pytest plug-in that puts the change in place and remembers the first test to fail, and why."""

    def __init__(self, overlay: Overlay | None) -> None:
        self.test = self.error = ""
        self.overlay = overlay

    def pytest_sessionstart(self) -> None:
        # Not before: pytest's own importer goes to the front when it starts, and it would load the file.
        if self.overlay is not None:
            sys.meta_path.insert(0, self.overlay)

    def _note(self, report: Any) -> None:
        if report.failed and not self.test:
            self.test = report.nodeid
            crash = getattr(report.longrepr, "reprcrash", None)
            lines = (crash.message if crash else str(report.longrepr)).strip().splitlines() or [""]
            line = lines[0] if crash else lines[-1]
            self.error = line.replace(f"{Path.cwd()}/", "")[:200]

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._note(report)

    def pytest_collectreport(self, report: Any) -> None:
        self._note(report)


@dataclass
class Running:
    """A child at work."""

    process: int
    began: float
    answer: Path
    mutation: Mutation
    stage: int
    limit: float  # seconds of processor time


@dataclass
class Laboratory:
    """Forks a child for every run of some tests over some source."""

    root: Path
    scratch: Path
    own: dict[str, tuple[list[str], list[str]]]  # the tests that bear each file's name, and its neighbours
    stages: int = 3
    patience: float = 60.0  # seconds beyond four times what the tests take without a change

    def arguments(self, file: str, stage: int) -> list[str]:
        if stage < 2:
            return self.own[file][stage]
        paths = tomllib.loads((self.root / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["testpaths"]
        return [*paths, *(f"--ignore={path}" for path in [*LEFT_OUT, *self.own[file][0], *self.own[file][1]])]

    def start(self, mutation: Mutation, stage: int, tests: list[str], limit: float, changed: bool = True) -> Running:
        handle, name = tempfile.mkstemp(dir=self.scratch)
        os.close(handle)
        file, source = mutation.file, None
        if changed:
            source = mutation.apply((self.root / file).read_text())
        process = os.fork()
        if process == 0:
            try:
                resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit) + 5))
                self._child(source, file, tests, Path(name))
            except BaseException as error:  # a child must not return into the parent's loop
                Path(name).write_text(json.dumps({"code": 70, "test": "", "error": repr(error)}))
            finally:
                os._exit(70)
        with contextlib.suppress(OSError):  # the child may have been first, or have ended
            os.setpgid(process, process)
        return Running(process, time.monotonic(), Path(name), mutation, stage, limit)

    def _child(self, source: str | None, file: str, tests: list[str], answer: Path) -> None:
        """Run the tests, write what came of it, and leave without a trace."""
        import pytest

        os.setpgid(0, 0)
        log = os.open(answer.with_suffix(".log"), os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1), os.dup2(log, 2)
        os.chdir(self.root)
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(self.scratch)  # compiled once, outside of the tree
        sys.path[0] = str(self.root)
        first = FirstFailure(None if source is None else Overlay(self.root, file, source))
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:anyio", "-W", "ignore:Module already imported"]
        code = int(pytest.main([*options, *tests], plugins=[first]))
        if first.overlay is not None and not first.overlay.used:
            raise AssertionError(f"no test imported {file}")
        answer.write_text(json.dumps({"code": code, "test": first.test, "error": first.error}))
        sys.stdout.flush()
        os._exit(0)

    def finish(self, run: Running) -> Result | None:
        """What came of a child, None while it is at work.

        Its limit is in seconds of processor time, which do not depend on what else the machine does; a child that waits
        for ever is ended as well, if later.
        """
        ended, status, used = os.wait4(run.process, os.WNOHANG)
        if not ended:
            if time.monotonic() - run.began < 60 + 30 * run.limit:
                return None
            os.killpg(run.process, signal.SIGKILL)
            os.waitpid(run.process, 0)
            return Result("timeout", error="waits for ever", seconds=run.limit)
        seconds = round(used.ru_utime + used.ru_stime, 2)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
            return Result("timeout", error=f"no end within {run.limit:.0f} s of processor time", seconds=seconds)
        text = run.answer.read_text()
        if not text:
            return Result("crashed", error=f"the process ended with status {status}", seconds=seconds)
        answer = json.loads(text)
        if answer["code"] == 0:
            return Result("survived", seconds=seconds)
        if answer["test"]:
            return Result("killed", answer["test"], answer["error"], seconds)
        log = run.answer.with_suffix(".log").read_text()[-2000:]
        raise SystemExit(f"pytest ended with {answer['code']} {answer['error']}:\n{log}")

    def wait(self, run: Running) -> Result:
        while (result := self.finish(run)) is None:
            time.sleep(0.02)
        return result


def own_tests(root: Path, file: str) -> tuple[list[str], list[str]]:
    """The tests of a file: its doctest and those that bear its name or are about constants; then its neighbours'."""
    found = [
        str(path.relative_to(root))
        for pattern in OWN_TESTS[str(Path(file).parent)]
        for path in sorted((root / pattern).rglob("test_*.py") if (root / pattern).is_dir() else root.glob(pattern))
    ]
    tests = [test for test in dict.fromkeys(found) if test not in LEFT_OUT]
    near = [test for test in tests if Path(file).stem.strip("_") in Path(test).stem.split("_")]
    if not any("constants" in test for test in near):
        near = [*(test for test in tests if Path(test).stem == "test_constants"), *near]
    return [file, *near], [test for test in tests if test not in near]


def survey(laboratory: Laboratory, mutations: list[Mutation], workers: int) -> Iterator[tuple[Mutation, Result]]:
    """Run all mutants, ``workers`` at a time: first the tests nearest to the file, its neighbours', then the rest.

    What is listed as equivalent meets the nearest tests only.
    """
    limits: dict[int, float] = {}
    waiting, active = [(mutation, 0) for mutation in reversed(mutations)], []
    try:
        while waiting or active:
            while waiting and len(active) < workers:
                mutation, stage = waiting.pop()
                if stage not in limits:  # without any change, the tests of all files together
                    tests = [test for m in mutations for test in laboratory.arguments(m.file, stage)]
                    unchanged = laboratory.start(mutation, stage, [*dict.fromkeys(tests)], 3600, changed=False)
                    clean = laboratory.wait(unchanged)
                    if clean.status != "survived":
                        raise SystemExit(f"tests fail without any change: {clean.test} {clean.error}")
                    limits[stage] = laboratory.patience + 4 * clean.seconds
                tests = laboratory.arguments(mutation.file, stage)
                active.append(laboratory.start(mutation, stage, tests, limits[stage]))
            time.sleep(0.01)
            for run in list(active):
                result = laboratory.finish(run)
                if result is None:
                    continue
                active.remove(run)
                listed = reason(run.mutation)
                last = 0 if listed else laboratory.stages - 1
                if result.status == "survived" and run.stage < last:
                    waiting.append((run.mutation, run.stage + 1))
                    continue
                if result.status == "survived" and listed:
                    result = Result("equivalent", error=listed, seconds=result.seconds)
                yield run.mutation, result
    finally:
        for run in active:
            os.killpg(run.process, signal.SIGKILL)


# -------------------------------------------------------------------------------------------------------- the report


def fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def write(output: Path, record: dict[str, object], rows: list[dict[str, object]]) -> None:
    """The record with one line per mutation, in place of the old file once it is whole."""
    head = json.dumps(record, indent=1, ensure_ascii=False)[:-2]
    lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in rows)
    part = output.with_suffix(".part")
    part.write_text(f'{head},\n "mutations": [\n{lines}\n ]\n}}\n')
    part.replace(output)


def table(rows: list[dict[str, object]]) -> str:
    """How many mutants of each file came to which end."""
    states = ("killed", "timeout", "crashed", "equivalent", "survived")
    lines = [f"{'file':<36}" + "".join(f"{state:>12}" for state in ("mutants", *states))]
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        counts.setdefault(str(row["file"]), Counter())[str(row["status"])] += 1
    counts["all"] = sum(counts.values(), Counter())
    for file, count in counts.items():
        lines.append(f"{file:<36}{count.total():>12}" + "".join(f"{count[state]:>12}" for state in states))
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="where 'file:line function: source' has it")
    parser.add_argument("--operators", action="store_true", help="change operators as well")
    parser.add_argument("--list", action="store_true", help="list the mutations without running them")
    parser.add_argument("--fresh", action="store_true", help="forget the results of earlier runs")
    parser.add_argument("--stages", type=int, default=3, help="1: the nearest tests; 2: their neighbours; 3: all")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds before a mutant may count as a timeout")
    parser.add_argument("--workers", type=int, default=2, help="mutants at a time (2)")
    parser.add_argument("--root", type=Path, default=HERE.parent, help="the folder of the project")
    parser.add_argument("--source", action="append", default=[], help="a file to change, in place of the usual ones")
    parser.add_argument("--tests", action="append", default=[], help="the tests of --source, and no others")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "mutations.json", help="the JSON to write")
    return parser.parse_args()


def prepare(modules: tuple[str, ...]) -> None:
    """What all children share: libraries, and property tests that do not shrink what they find."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HYPOTHESIS_PROFILE": "mutations"}
    for name in modules:
        importlib.import_module(name)
    from hypothesis import HealthCheck, Phase, settings

    settings.register_profile(
        "mutations",
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    gc.collect()
    gc.freeze()


def main() -> int:
    """Find, run, report."""
    options = arguments()
    root = options.root.resolve()
    files = options.source or [
        str(path.relative_to(root))
        for pattern in SOURCES
        for path in sorted(root.glob(pattern))
        if path.name not in NOT_SOURCES
    ]
    finders = [find(root, file, options.operators) for file in files]
    everything = [mutation for finder in finders for mutation in finder.found]
    chosen = [mutation for mutation in everything if options.only in mutation.place]
    for entry in () if options.source else EQUIVALENT:
        if not any(entry.file == m.file and entry.fragment in m.before for m in everything):
            raise SystemExit(f"no line of {entry.file} holds {entry.fragment!r} any more: correct EQUIVALENT")
    if options.list:
        for mutation in chosen:
            print(f"{mutation.file}:{mutation.line}: {mutation.before}  ->  {mutation.after}")
        return 0
    hashes = {file: fingerprint(root / file) for file in files}
    results: dict[tuple[object, ...], Result] = {}
    with contextlib.suppress(FileNotFoundError):
        old = json.loads(options.output.read_text())
        names = [name for name in Result.__annotations__]
        for row in old["mutations"] if not options.fresh else ():
            if old["sources"].get(row["file"]) == hashes.get(row["file"]):
                mutation = Mutation(**{name: row[name] for name in Mutation.__annotations__})
                results[mutation.key] = result = Result(**{name: row[name] for name in names})
                if result.status in ("survived", "equivalent"):  # by what is listed now
                    listed = reason(mutation)
                    result.status, result.error = ("equivalent" if listed else "survived"), listed
    todo = [m for m in chosen if m.key not in results or results[m.key].status == "survived"]
    prepare(() if options.source else PRELOAD)
    own = {file: (options.tests, []) if options.tests else own_tests(root, file) for file in files}

    def save() -> list[dict[str, object]]:
        rows = [asdict(m) | asdict(results[m.key]) for m in everything if m.key in results]
        record: dict[str, object] = {
            "command": "python benchmarks/mutations.py" + " --operators" * options.operators,
            "date": time.strftime("%Y-%m-%d"),
            "python": platform.python_version(),
            "libraries": {name: version(name) for name in ("torch", "numpy", "scipy", "pytest", "hypothesis")},
            "sources": hashes,
            "summary": {
                "constants": len(everything) + sum(len(finder.skipped) for finder in finders),
                **Counter(str(row["status"]) for row in rows),
                "not run yet": len(everything) - len(rows),
            },
            "left out tests": LEFT_OUT,
            "rules": RULES,
            "skipped": [" | ".join(map(str, entry.values())) for finder in finders for entry in finder.skipped],
        }
        write(options.output, record, rows)
        return rows

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        stages = 1 if options.tests else options.stages
        laboratory = Laboratory(root, Path(scratch), own, stages, options.patience)
        began = time.monotonic()
        for done, (mutation, result) in enumerate(survey(laboratory, todo, options.workers), start=1):
            results[mutation.key] = result
            save()
            end = f"{result.test} ({result.error})" if result.status == "killed" else result.error
            print(f"[{done}/{len(todo)} {time.monotonic() - began:.0f} s] {mutation.file}:{mutation.line}", flush=True)
            print(f"    {mutation.before}\n    {mutation.after}\n    {result.status} {end}", flush=True)
    rows = save()
    print(table(rows))
    for row in rows:
        if row["status"] == "survived":
            print(f"survived: {row['file']}:{row['line']} {row['before']}  ->  {row['after']}")
    return int(any(row["status"] == "survived" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
