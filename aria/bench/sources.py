"""The source code of users' own tasks and plug-ins, which a cell's name depends on: edited code is another arm."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import CodeType

from aria import registry
from aria.bench.arms import ORACLE, Arm
from aria.interfaces import Allocator, Partitioner, Tracker
from aria.tasks.base import AnyTask


def of_task(task: AnyTask) -> list[str]:
    """The source of the modules outside this package that the task and the parts inside it come from."""
    return list(_foreign(task))


def of_arm(arm: Arm) -> list[str]:
    """The same of the arm's allocator, tracker and partitioner."""
    parts: list[object] = [] if arm.allocator == ORACLE else [registry.allocator(arm.allocator)]
    parts += [registry.tracker(arm.tracker), registry.partitioner(arm.partitioner)]
    return [source for part in parts for source in _foreign(part)]


def _foreign(part: object) -> Iterator[str]:
    outside = not type(part).__module__.startswith("aria.")
    if isinstance(part, Allocator | Tracker | Partitioner | AnyTask) and outside:
        yield _source(type(part))
    if is_dataclass(part):
        for field in fields(part):
            yield from _foreign(getattr(part, field.name))


def _source(cls: type) -> str:
    """The text of a class's module. A class typed into an interpreter has no file: the bytecode of its methods."""
    module = sys.modules[cls.__module__]
    if getattr(module, "__file__", None):
        return inspect.getsource(module)
    methods = sorted((name, method) for name, method in vars(cls).items() if inspect.isfunction(method))
    return repr([(name, _body(method.__code__)) for name, method in methods])


def _body(code: CodeType) -> list[object]:
    """A function's bytecode, names and constants, which are the same in every process."""
    inner = [_body(value) if isinstance(value, CodeType) else repr(value) for value in code.co_consts]
    return [code.co_code.hex(), code.co_names, inner]
