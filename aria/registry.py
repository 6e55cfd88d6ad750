"""Spec strings: what a user types becomes a partitioner, tracker or allocator.

``ema(rate=0.1)``                 a class of this package, by its name in lower case
``my_pkg.alloc:Greedy(top=3)``    a class of an importable module
``plugins/greedy.py:Greedy``      a class of a file
``shiny``                         an entry point in ``aria.trackers``, ``aria.allocators`` or ``aria.partitioners``

Arguments are literals or nested specs (``progress(of=ema(rate=0.5))``). Only strings typed by a user come here: nothing
that is read from a checkpoint, partition or log is ever resolved.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import entry_points
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from torch import Tensor

from aria.interfaces import Allocator, Partitioner, Tracker

__all__ = [
    "SpecError", "add_kind", "allocator", "available", "hint", "own_line", "partitioner", "resolve", "signatures",
    "spec", "tracker",
]  # fmt: skip

KINDS: dict[type, str] = {Partitioner: "partitioner", Tracker: "tracker", Allocator: "allocator"}
"""What a spec may name, and the word for it. :func:`add_kind` adds to them."""

_HOMES: dict[str, str] = {word: f"aria.{word}s" for word in KINDS.values()}
"""The package whose public classes a spec of each kind names without a module."""

_FILES: dict[str, Path] = {}
"""Names of modules loaded from files, and the file each came from."""

_OWN: set[str] = set()
"""Names of modules outside this package that specs led to: where code of the user runs."""

_FOREIGN = re.compile(
    r"""(?P<text>'[^']*'|"[^"]*")"""  # what is quoted stays as it is
    r"""|(?P<module>^\s*[^()=,'"\[\]]+\.py|[^\s()=,'"\[\]]+):(?P<name>[A-Za-z_]\w*)"""
)


class SpecError(ValueError):
    """A spec string that names nothing; the message is one line and says what exists."""


def add_kind(base: type, word: str, package: str) -> None:
    """Let specs name the subclasses of ``base`` that ``package`` exports, and the entry points in ``aria.{word}s``."""
    KINDS[base] = word
    _HOMES[word] = package


def resolve(given: object, kind: type) -> Any:
    """The part of this ``kind`` that a spec string names; a part is returned as it is.

    >>> from aria.interfaces import Tracker
    >>> resolve("window(size=3)", Tracker).size
    3
    """
    return _resolve(given, kind)


def available(kind: type) -> list[str]:
    """The names a spec of this kind may use, entry points included.

    >>> from aria.interfaces import Allocator
    >>> "proportional" in available(Allocator)
    True
    """
    return sorted({*_builtins(kind), *_entry_points(kind)})


def signatures(kind: type) -> dict[str, str]:
    """What a spec of this kind may name, and the arguments of each.

    >>> from aria.interfaces import Tracker
    >>> signatures(Tracker)["window"]
    'size=16, sigma=None'
    """
    points = _entry_points(kind)
    known = _builtins(kind) | {name: point.load() for name, point in points.items()}
    return {name: _takes(known[name]) for name in sorted(known)}


def partitioner(given: str | Partitioner) -> Partitioner:
    """The partitioner a spec string names; a partitioner is returned as it is.

    >>> partitioner("labels('style')").column
    'style'
    """
    return cast(Partitioner, _resolve(given, Partitioner))


def tracker(given: str | Tracker) -> Tracker:
    """The tracker a spec string names; a tracker is returned as it is.

    >>> tracker("progress(of=ema(rate=0.5))").of.rate
    0.5
    """
    return cast(Tracker, _resolve(given, Tracker))


def allocator(given: str | Allocator) -> Allocator:
    """The allocator a spec string names; an allocator is returned as it is.

    >>> allocator("softmax(temperature=0.5)").temperature
    0.5
    """
    return cast(Allocator, _resolve(given, Allocator))


def spec(part: object, *, full_paths: bool = False) -> str:
    """The spec string that describes ``part``, every argument spelled out.

    A class of a file is named by the file's name, which is the same on every machine, or with ``full_paths`` by its
    path, which :func:`resolve` can load from any working directory.

    >>> from aria.trackers import EMA
    >>> spec(EMA(rate=0.5))
    'ema(rate=0.5, importance=False, sigma=None)'
    """
    cls = type(part)
    home = next((_builtins(kind) for kind in KINDS if isinstance(part, kind)), {})
    name = next(
        (name for name, known in home.items() if known is cls),
        f"{_home(cls, full_paths)}:{cls.__qualname__}",
    )
    if dataclasses.is_dataclass(part):
        told = {field.name: getattr(part, field.name) for field in dataclasses.fields(part) if field.repr}
    else:
        told = dict(sorted(getattr(part, "__dict__", {}).items()))
    return f"{name}({', '.join(f'{key}={_argument(value, full_paths)}' for key, value in told.items())})"


def hint(name: str, known: list[str]) -> str:
    """What may have been meant, for the middle of a sentence; nothing where no name is near.

    >>> hint("emma", ["ema", "bank"])
    " (did you mean 'ema'?)"
    """
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def own_line(error: BaseException) -> str | None:
    """Where in a module that a spec named the ``error`` arose, as ``file.py line 3``; None if in none of them."""
    frames = traceback.walk_tb(error.__traceback__)
    mine = [
        (frame.f_code.co_filename, line) for frame, line in frames if frame.f_globals.get("__name__") in _OWN
    ]
    return f"{Path(mine[-1][0]).name} line {mine[-1][1]}" if mine else None


def _resolve(given: object, kind: type) -> object:
    if isinstance(given, kind):
        return given
    if not isinstance(given, str):
        raise SpecError(f"a {KINDS[kind]} is a spec string or a {kind.__name__}, got {given!r}")
    return _build(given, kind)


def _home(cls: type, full_paths: bool) -> str:
    """The module or file of a class outside this package."""
    file = _FILES.get(cls.__module__)
    if file is None:
        return cls.__module__
    return str(file) if full_paths else file.name


def _argument(value: object, full_paths: bool) -> str:
    """One spelling for equal values, the same in every process."""
    if isinstance(value, tuple(KINDS)):
        return spec(value, full_paths=full_paths)
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        return str(int(number)) if number.is_integer() else repr(number)
    if isinstance(value, Tensor):
        bytes_ = value.detach().cpu().contiguous().double().numpy().tobytes()
        return f"<tensor {tuple(value.shape)} {hashlib.sha256(bytes_).hexdigest()[:16]}>"
    if callable(value):
        return f"<{getattr(value, '__module__', '?')}:{getattr(value, '__qualname__', type(value).__qualname__)}>"
    return repr(value)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _builtins(kind: type) -> dict[str, Any]:
    package = importlib.import_module(_HOMES[KINDS[kind]])
    classes = [getattr(package, name) for name in package.__all__]
    parts = [cls for cls in classes if inspect.isclass(cls) and issubclass(cls, kind) and not inspect.isabstract(cls)]
    return {_snake(cls.__name__): cls for cls in parts}


def _entry_points(kind: type) -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=f"aria.{KINDS[kind]}s")}


def _build(text: str, kind: type) -> object:
    """Parse ``text`` as a Python call whose foreign names stand in as placeholders."""
    if re.fullmatch(r"[^()=,:'\"]+\.py", text.strip()):
        raise SpecError(f"say which class of the file: {text.strip()}:Class")
    foreign: dict[str, tuple[str, str]] = {}

    def stand_in(match: re.Match[str]) -> str:
        if match["text"]:
            return match["text"]
        foreign[f"_foreign{len(foreign)}"] = (match["module"].strip(), match["name"])
        return f"_foreign{len(foreign) - 1}"

    try:
        tree = ast.parse(_FOREIGN.sub(stand_in, text.strip()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two of a spec nested too deeply
        raise SpecError(
            f"cannot read the {KINDS[kind]} spec {text!r}: "
            f"write name, name(argument=value), module:Class(argument=value) or file.py:Class(argument=value)"
        ) from None
    part = _value(tree, text, kind, foreign)
    if not isinstance(part, kind):
        raise SpecError(f"{text!r} gives a {type(part).__name__}, which is no {kind.__module__}.{kind.__name__}")
    return part


def _value(node: ast.expr, text: str, kind: type, foreign: dict[str, tuple[str, str]]) -> Any:
    """The object an expression stands for: a literal, a name, or a call of a name."""
    if isinstance(node, ast.Call | ast.Name):
        name = node.func if isinstance(node, ast.Call) else node
        if not isinstance(name, ast.Name):
            raise SpecError(f"cannot read the {KINDS[kind]} spec {text!r}: only names can be called")
        args, kwargs = [], {}
        if isinstance(node, ast.Call):
            args = [_value(arg, text, kind, foreign) for arg in node.args]
            kwargs = {str(pair.arg): _value(pair.value, text, kind, foreign) for pair in node.keywords}
            if len(kwargs) < len(node.keywords) or "None" in kwargs:
                raise SpecError(
                    f"cannot read the {KINDS[kind]} spec {text!r}: each argument is named once, as name=value"
                )
        factory, shown = _factory(name.id, kind, foreign)
        return _call(factory, shown, args, kwargs)
    if isinstance(node, ast.List | ast.Tuple):
        return tuple(_value(item, text, kind, foreign) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise SpecError(
            f"cannot read {ast.unparse(node)!r} in {text!r}: arguments are literals or specs; "
            f"a file needs its class, file.py:Class"
        ) from None


def _factory(name: str, kind: type, foreign: dict[str, tuple[str, str]]) -> tuple[Callable[..., Any], str]:
    if name in foreign:
        module, attribute = foreign[name]
        return _attribute(_module(module), attribute, module), f"{module}:{attribute}"
    builtins = _builtins(kind)
    folded = {known.replace("_", ""): known for known in builtins}
    key = folded.get(name.replace("_", "").lower())
    if key is not None:
        return builtins[key], key
    points = _entry_points(kind)
    if name in points:
        return points[name].load(), name
    other = next((word for cls, word in KINDS.items() if cls is not kind and name in available(cls)), None)
    near = f", which is the name of one of the {other}s" if other else hint(name, available(kind))
    raise SpecError(f"unknown {KINDS[kind]} {name!r}{near}; there are: {', '.join(available(kind))}")


def _call(factory: Callable[..., Any], shown: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if not callable(factory):
        raise SpecError(f"{shown} is a {type(factory).__name__}, not a class or function that makes one")
    signature = inspect.signature(factory)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        unknown = [name for name in kwargs if name not in signature.parameters]
        near = hint(unknown[0], list(signature.parameters)) if unknown else ""
        raise SpecError(f"{shown}: {error}{near}; it takes ({_takes(factory)})") from None
    try:
        part = factory(*args, **kwargs)
    except TypeError as error:
        raise SpecError(f"{shown}: {error}") from error
    homes = {cls.__module__ for cls in type(part).__mro__}  # of what it was made by, or inherits from
    _OWN.update(home for home in homes if home.split(".")[0] not in ("aria", "abc", "builtins"))
    return part


def _takes(factory: Callable[..., Any]) -> str:
    """The arguments of a class or function with their defaults, as one would write them."""
    parameters = inspect.signature(factory).parameters.values()
    return ", ".join(str(parameter).split(": ")[0] + _default(parameter) for parameter in parameters)


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty or ": " not in str(parameter):
        return ""
    plain = isinstance(parameter.default, bool | int | float | str | None)
    return f"={parameter.default!r}" if plain else "=…"


def _attribute(module: ModuleType, name: str, shown: str) -> Any:
    if not hasattr(module, name):
        public = [
            known for known, value in vars(module).items() if inspect.isclass(value) and not known.startswith("_")
        ]
        raise SpecError(
            f"{shown} has no {name!r}{hint(name, public)}; its classes: {', '.join(sorted(public)) or 'none'}"
        )
    return getattr(module, name)


def _module(name: str) -> ModuleType:
    """Import a module by dotted name, or a file by path."""
    if not name.endswith(".py") and not re.fullmatch(r"\w+(\.\w+)*", name):
        raise SpecError(f"{name!r} is neither the name of a module nor a file that ends in .py")
    if not name.endswith(".py"):
        if name.split(".")[0] != "aria":
            _OWN.add(name)
        try:
            return importlib.import_module(name)
        except Exception as error:
            more = f"; for a file write {name}.py:…" if Path(f"{name}.py").is_file() else ""
            raise SpecError(f"cannot import {name!r}: {type(error).__name__}: {error}{more}") from error
    path = Path(name).expanduser()
    if not path.is_file():
        raise SpecError(f"there is no file {name!r}")
    alias = f"aria_plugin_{path.stem}_{abs(hash(path.resolve()))}"
    _FILES[alias] = path.resolve()
    _OWN.add(alias)
    if alias in sys.modules:
        return sys.modules[alias]
    found = importlib.util.spec_from_file_location(alias, path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[alias] = module
    try:
        found.loader.exec_module(module)
    except Exception as error:
        del sys.modules[alias]
        raise SpecError(f"cannot import {name!r}: {type(error).__name__}: {error}") from error
    return module
