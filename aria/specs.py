"""Spec strings, read and checked without importing what they name, so that a misspelt name is refused at once.

Built-in classes are found in the source of the packages that export them. :mod:`aria.registry` imports and calls what a
spec names.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple

from aria.checks import hint


class SpecError(ValueError):
    """A spec string that names nothing; the message is one line and lists what exists."""


LONGEST = 4096
"""Characters in a spec. Python's parser takes long for a text that is nested deeply and overflows for longer ones."""


class Kind(NamedTuple):
    """A kind of part that a spec can name."""

    word: str
    """What messages call it; entry points of the group ``aria.{word}s`` add to the built-in names."""
    module: str
    base: str
    """The base class, and the module that defines it."""
    home: str
    """The package, or module, whose exported subclasses of ``base`` have names."""
    through: tuple[str, ...] = ()
    """Abstract subclasses of ``base`` from which built-in classes derive."""


KINDS = (
    Kind("partitioner", "aria.interfaces", "Partitioner", "aria.partitioners"),
    Kind("tracker", "aria.interfaces", "Tracker", "aria.trackers"),
    Kind("allocator", "aria.interfaces", "Allocator", "aria.allocators"),
    Kind("objective", "aria.distill.objectives.base", "Objective", "aria.distill.objectives"),
    Kind("weighting", "aria.distill.objectives.weighting", "Weighting", "aria.distill.objectives"),
    Kind("replacement", "aria.distill.engine.replacement", "Replacement", "aria.distill.engine.replacement"),
    Kind("scorer", "aria.distill.evaluation.scorers.base", "Scorer", "aria.distill.evaluation.scorers"),
    Kind("task", "aria.tasks.base", "AnyTask", "aria.tasks", through=("Task", "OnDisk")),
)


class Class(NamedTuple):
    """What the source says of a class."""

    name: str
    bases: tuple[str, ...]
    fields: tuple[str, ...]
    """Its own fields, with their defaults."""


@dataclass(frozen=True)
class Named:
    """A class that a spec names, and its arguments: literals, tuples and further :class:`Named`."""

    name: str
    module: str | None = None
    """The module or the file of a class that is not built in."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


def kind_called(word: str) -> Kind:
    """
    >>> kind_called("tracker").home
    'aria.trackers'
    """
    return next(kind for kind in KINDS if kind.word == word)


def available(kind: Kind) -> list[str]:
    """The names that a spec of this kind may use, entry points included.

    >>> available(kind_called("allocator"))[:3]
    ['exp3', 'neyman', 'oracle']
    """
    return sorted({*built_in(kind), *points(kind)})


@cache
def built_in(kind: Kind) -> dict[str, Class]:
    """The built-in classes of a kind by their names in specs: those that ``home`` exports and that derive from the base
    class.

    >>> built_in(kind_called("tracker"))["window"]
    Class(name='Window', bases=('Tracker',), fields=('size=16', 'sigma=None'))
    """
    found = importlib.util.find_spec(kind.home)
    assert found is not None and found.origin is not None
    if found.submodule_search_locations is None:
        files, exported = [Path(found.origin)], None
    else:
        files, exported = sorted(Path(found.origin).parent.rglob("*.py")), importlib.import_module(kind.home).__all__
    bases = {kind.base, *kind.through}
    classes = [one for path in files for one in _classes(path) if bases & {*one.bases} and one.name not in bases]
    return {_snake(one.name): one for one in classes if exported is None or one.name in exported}


@cache
def _classes(path: Path) -> list[Class]:
    """The classes that a file defines."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    constants = dict(pair for node in body if isinstance(node, ast.Assign) for pair in _constants(node))
    return [_class(node, constants) for node in body if isinstance(node, ast.ClassDef)]


def _constants(node: ast.Assign) -> Iterator[tuple[str, ast.expr]]:
    """The names that ``A = 1`` or ``A, B = 1, 2`` gives to expressions."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            yield name, value
        case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
            yield from zip(map(ast.unparse, names), values, strict=True)


def _class(node: ast.ClassDef, constants: dict[str, ast.expr]) -> Class:
    fields = [
        one.target.id if one.value is None else f"{one.target.id}={_default(one.value, constants)}"
        for one in node.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
        and not ast.unparse(one.annotation).startswith("ClassVar")
    ]  # fmt: skip
    return Class(node.name, tuple(map(ast.unparse, node.bases)), tuple(fields))


def _default(value: ast.expr, constants: dict[str, ast.expr]) -> str:
    """The default of a field, if it is a number, a string, a flag or None."""
    if isinstance(value, ast.Name):
        value = constants.get(value.id, value)
    inner = {type(node) for node in ast.walk(value)}
    plain = inner <= {ast.Constant, ast.UnaryOp, ast.USub, ast.BinOp, ast.Div, ast.Mult, ast.Pow}
    return ast.unparse(value) if plain else "…"


def arguments(kind: Kind, name: str) -> str:
    """The arguments of a built-in class of this kind, inherited ones first.

    >>> arguments(kind_called("objective"), "feature")
    'weight=1.0, layers=…, normalise=True'
    """
    found = importlib.util.find_spec(kind.module)
    assert found is not None and found.origin is not None
    base = next(one for one in _classes(Path(found.origin)) if one.name == kind.base)
    return ", ".join([*base.fields, *built_in(kind)[name].fields])


def signatures(kind: Kind) -> dict[str, str]:
    """What a spec of this kind may name, and the arguments of each.

    >>> signatures(kind_called("tracker"))["window"]
    'size=16, sigma=None'
    """
    known = {name: arguments(kind, name) for name in built_in(kind)}
    known |= {name: takes(point.load()) for name, point in points(kind).items() if name not in known}
    return dict(sorted(known.items()))


def points(kind: Kind) -> dict[str, EntryPoint]:
    """The entry points of a kind by name."""
    return {point.name: point for point in entry_points(group=f"aria.{kind.word}s")}


def takes(factory: Callable[..., Any]) -> str:
    """The arguments of a class with their defaults, as one would write them."""
    parameters = inspect.signature(factory).parameters.values()
    return ", ".join(str(parameter).split(": ")[0] + _shown_default(parameter) for parameter in parameters)


def _shown_default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty or ": " not in str(parameter):
        return ""
    plain = isinstance(parameter.default, bool | int | float | str | None)
    return f"={parameter.default!r}" if plain else "=…"


def check(text: str, word: str) -> None:
    """Refuse a spec that cannot be read, or that names no class of this kind or no file.

    >>> check("progress(of=emma)", "tracker")
    Traceback (most recent call last):
    aria.specs.SpecError: unknown tracker 'emma' (did you mean 'ema'?); there are: bank, ...
    """
    read(text, kind_called(word))


FOREIGN = re.compile(
    r"""(?P<text>'[^']*'|"[^"]*")"""  # quoted text stays as it is
    r"""|(?P<module>^\s*[^()=,'"\[\]]+\.py|[^\s()=,'"\[\]]+):(?P<name>[A-Za-z_]\w*)"""
)


def read(text: str, kind: Kind) -> Any:
    """Read a spec as a Python expression of calls, names, literals and lists.

    >>> read("progress(of=ema(rate=0.5))", kind_called("tracker")).kwargs["of"].kwargs
    {'rate': 0.5}
    """
    if len(text) > LONGEST:
        raise SpecError(f"a {kind.word} spec has at most {LONGEST:,} characters, got {len(text):,}")
    if re.fullmatch(r"[^()=,:'\"]+\.py", text.strip()):
        raise SpecError(f"name a class of the file: {text.strip()}:Class")
    if re.search(r"[#\n\r\\]", text.strip()):
        raise SpecError(f"cannot read the {kind.word} spec {text[:200]!r}: it is one line without comments")
    foreign: dict[str, tuple[str, str]] = {}

    def stand_in(match: re.Match[str]) -> str:
        """A Python name in the place of ``module:Class``."""
        if match["text"]:
            return match["text"]
        foreign[f"_foreign{len(foreign)}"] = (match["module"].strip(), match["name"])
        return f"_foreign{len(foreign) - 1}"

    try:
        tree = ast.parse(FOREIGN.sub(stand_in, text.strip()), mode="eval").body
        return _Reader(text, kind, foreign).value(tree)
    except SpecError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two for a spec nested too deeply
        shown = text if len(text) <= 200 else f"{text[:200]}…"
        raise SpecError(
            f"cannot read the {kind.word} spec {shown!r}: "
            f"write name, name(argument=value), module:Class(argument=value) or file.py:Class(argument=value)"
        ) from None


def imported(value: Any) -> list[str]:
    """The modules and files that must be imported for what :func:`read` returned.

    >>> imported(read("progress(of=my_pkg.trackers:Mine())", kind_called("tracker")))
    ['my_pkg.trackers']
    """
    if isinstance(value, Named):
        own = [] if value.module is None else [value.module]
        return own + [name for part in (*value.args, *value.kwargs.values()) for name in imported(part)]
    return [name for item in value for name in imported(item)] if isinstance(value, tuple) else []


@dataclass(frozen=True)
class _Reader:
    text: str
    kind: Kind
    foreign: dict[str, tuple[str, str]]

    def value(self, node: ast.expr) -> Any:
        """What an expression stands for: a literal, a name, or a call of a name."""
        if isinstance(node, ast.Call | ast.Name):
            return self.named(node)
        if isinstance(node, ast.List | ast.Tuple):
            return tuple(map(self.value, node.elts))
        try:
            return ast.literal_eval(node)
        except ValueError:
            raise SpecError(
                f"cannot read {ast.unparse(node)!r} in {self.text!r}: arguments are literals or specs; "
                f"a file needs its class, file.py:Class"
            ) from None

    def named(self, node: ast.Call | ast.Name) -> Named:
        name = node.func if isinstance(node, ast.Call) else node
        if not isinstance(name, ast.Name):
            raise SpecError(f"cannot read the {self.kind.word} spec {self.text!r}: only names can be called")
        args: tuple[Any, ...] = ()
        kwargs: dict[str, Any] = {}
        if isinstance(node, ast.Call):
            args = tuple(map(self.value, node.args))
            kwargs = {str(pair.arg): self.value(pair.value) for pair in node.keywords}
            if len(kwargs) < len(node.keywords) or "None" in kwargs:
                raise SpecError(
                    f"cannot read the {self.kind.word} spec {self.text!r}: each argument is named once, as name=value"
                )
        if name.id in self.foreign:
            module, attribute = self.foreign[name.id]
            _check_module(module)
            return Named(attribute, module, args, kwargs)
        known = _known(name.id, self.kind)
        _check_arguments(known, self.kind, kwargs)
        return Named(known, None, args, kwargs)


def _known(name: str, kind: Kind) -> str:
    """The name as :func:`available` spells it; case and underscores make no difference for built-in names."""
    folded = {known.replace("_", ""): known for known in built_in(kind)}
    key = folded.get(name.replace("_", "").lower())
    if key is not None:
        return key
    known = available(kind)
    if name in known:
        return name
    other = next((one.word for one in KINDS if one is not kind and name in available(one)), None)
    near = f", which is the name of one of the {other}s" if other else hint(name, known)
    raise SpecError(f"unknown {kind.word} {name!r}{near}; there are: {', '.join(known)}")


def _check_arguments(name: str, kind: Kind, given: dict[str, Any]) -> None:
    """Refuse an argument that a built-in class does not take, where the source tells which it takes."""
    own = built_in(kind).get(name)
    if own is None or not {*own.bases} <= {kind.base, *kind.through}:
        return
    known = arguments(kind, name)
    names = [one.split("=")[0] for one in known.split(", ")]
    for one in given:
        if one not in names:
            raise SpecError(f"{name}: got an unexpected keyword argument {one!r}{hint(one, names)}; it takes ({known})")


def _check_module(name: str) -> None:
    if not name.endswith(".py"):
        if not re.fullmatch(r"\w+(\.\w+)*", name):
            raise SpecError(f"{name!r} is neither the name of a module nor a file that ends in .py")
    elif not Path(name).expanduser().is_file():
        raise SpecError(f"there is no file {name!r}")


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
