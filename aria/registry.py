"""Builds parts from spec strings: the name that a user types becomes a partitioner, tracker, allocator or other part.

``ema(rate=0.1)``                 a class of this package, by its name in lower case
``my_pkg.alloc:Greedy(top=3)``    a class in an importable module
``plugins/greedy.py:Greedy``      a class in a file
``shiny``                         an entry point in ``aria.trackers``, ``aria.allocators`` or ``aria.partitioners``

Arguments are literals or nested specs (``progress(of=ema(rate=0.5))``). Only strings typed by a user are
resolved, never strings read from a checkpoint, partition or log.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from torch import Tensor

from aria import specs
from aria.checks import hint
from aria.interfaces import Allocator, Partitioner, Tracker
from aria.specs import Kind, SpecError, takes

__all__ = [
    "SpecError", "allocator", "available", "hint", "own_line", "partitioner", "resolve", "spec", "tracker",
]  # fmt: skip

_FILES: dict[str, Path] = {}
"""Maps modules loaded from files to their files."""

_OWN: set[str] = set()
"""Names of modules outside this package that specs loaded: the user's own code."""


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
    return specs.available(_kind(kind))


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

    A class in a file is named by the file's name, which is the same on every machine, or with ``full_paths`` by its
    absolute path, which :func:`resolve` can load from any working directory.

    >>> from aria.trackers import EMA
    >>> spec(EMA(rate=0.5))
    'ema(rate=0.5, importance=False, sigma=None)'
    """
    cls = type(part)
    name = _built_in_name(part) or f"{_home(cls, full_paths)}:{cls.__qualname__}"
    if dataclasses.is_dataclass(part):
        arguments = {field.name: getattr(part, field.name) for field in dataclasses.fields(part) if field.repr}
    else:
        arguments = dict(sorted(getattr(part, "__dict__", {}).items()))
    return f"{name}({', '.join(f'{key}={_argument(value, full_paths)}' for key, value in arguments.items())})"


def own_line(error: BaseException) -> str | None:
    """The line of the user's own code that raised ``error``, as ``file.py line 3``; None if it was not raised there."""
    frames = traceback.walk_tb(error.__traceback__)
    lines = [
        (frame.f_code.co_filename, line) for frame, line in frames if frame.f_globals.get("__name__") in _OWN
    ]
    return f"{Path(lines[-1][0]).name} line {lines[-1][1]}" if lines else None


def _resolve(given: object, base: type) -> object:
    if isinstance(given, base):
        return given
    kind = _kind(base)
    if not isinstance(given, str):
        raise SpecError(f"a {kind.word} is a spec string or a {base.__name__}, got {given!r}")
    part = _build(specs.read(given, kind), kind, base)
    if not isinstance(part, base):
        raise SpecError(f"{given!r} gives a {type(part).__name__}, which is not an {base.__module__}.{base.__name__}")
    return part


def _kind(base: type) -> Kind:
    return next(kind for kind in specs.KINDS if (kind.module, kind.base) == (base.__module__, base.__qualname__))


def _built_in_name(part: object) -> str | None:
    """The name of a part that is an instance of a built-in class."""
    cls = type(part)
    for kind in specs.KINDS:
        for name, known in specs.built_in(kind).items():
            if cls.__name__ == known.name and isinstance(part, _base(kind)) and _class(known.name, kind) is cls:
                return name
    return None


def _base(kind: Kind) -> type | tuple[()]:
    """The base class, or () if its module is not loaded, since no object can be an instance of it then."""
    module = sys.modules.get(kind.module)
    return () if module is None else cast(type, getattr(module, kind.base))


def _class(exported: str, kind: Kind) -> Any:
    return getattr(importlib.import_module(kind.home), exported)


def _home(cls: type, full_paths: bool) -> str:
    """The module or file of a class outside this package."""
    file = _FILES.get(cls.__module__)
    if file is None:
        return cls.__module__
    return str(file) if full_paths else file.name


def _argument(value: object, full_paths: bool) -> str:
    """The value in a spec; equal values are spelled the same in every process."""
    if any(isinstance(value, _base(kind)) for kind in specs.KINDS):
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


def _build(value: Any, kind: Kind, base: type) -> Any:
    """The object that a spec describes. Only a class of the wanted kind is called."""
    if isinstance(value, tuple):
        return tuple(_build(item, kind, base) for item in value)
    if not isinstance(value, specs.Named):
        return value
    args = [_build(item, kind, base) for item in value.args]
    kwargs = {name: _build(item, kind, base) for name, item in value.kwargs.items()}
    if value.module is None:
        found, shown = _named(value.name, kind), value.name
    else:
        found, shown = _attribute(_module(value.module), value.name, value.module), f"{value.module}:{value.name}"
    if not isinstance(found, type):
        raise SpecError(f"{shown} is a {type(found).__name__}, not a class")
    if not issubclass(found, base):
        raise SpecError(f"{shown} is no {kind.word}: it does not derive from {base.__module__}.{base.__name__}")
    return _call(found, shown, args, kwargs)


def _named(name: str, kind: Kind) -> Any:
    """What a name stands for that exists."""
    built_in = specs.built_in(kind)
    return _class(built_in[name].name, kind) if name in built_in else specs.points(kind)[name].load()


def _call(cls: type, shown: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    signature = inspect.signature(cls)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        unknown = [name for name in kwargs if name not in signature.parameters]
        near = hint(unknown[0], list(signature.parameters)) if unknown else ""
        raise SpecError(f"{shown}: {error}{near}; it takes ({takes(cls)})") from None
    try:
        part = cls(*args, **kwargs)
    except TypeError as error:
        raise SpecError(f"{shown}: {error}") from error
    homes = {one.__module__ for one in cls.__mro__}  # its class and those it inherits from
    _OWN.update(home for home in homes if home.split(".")[0] not in ("aria", "abc", "builtins"))
    return part


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
    """Import a module by its dotted name, or a file by its path."""
    if not name.endswith(".py"):
        if name.split(".")[0] != "aria":
            _OWN.add(name)
        try:
            return importlib.import_module(name)
        except Exception as error:
            more = f"; for a file write {name}.py:…" if Path(f"{name}.py").is_file() else ""
            raise SpecError(f"cannot import {name!r}: {type(error).__name__}: {error}{more}") from error
    path = Path(name).expanduser()
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
