"""The state that a run saves: named parts with one interface."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

State = Mapping[str, Any]
"""Tensors and JSON values by name."""


class Stateful(Protocol):
    """An object that can be saved. Every rank calls ``state_dict``, and the first rank's result is written."""

    def state_dict(self) -> State: ...

    def load_state_dict(self, state: Any) -> None: ...


@runtime_checkable
class Exported(Protocol):
    """A stateful object that is also a model, which diffusers' ``from_pretrained`` can open from the checkpoint."""

    file: str
    """File of its tensors, relative to the checkpoint."""

    def export(self, folder: Path | None) -> None:
        """Write what else ``from_pretrained`` needs. Every rank calls it, only the first with a folder."""


def check_structure(name: str, saved: Any, now: Any) -> None:
    """Refuse JSON whose names, lengths or types differ from the run's own, or with a number that is not finite."""
    if not _same_structure(saved, now):
        raise ValueError(f"{name} is not structured as in this run: {saved!r:.100}")


def _same_structure(saved: Any, now: Any) -> bool:
    match now:
        case dict():
            same = isinstance(saved, dict) and saved.keys() == now.keys()
            return same and all(_same_structure(saved[key], now[key]) for key in now)
        case list() | tuple():
            return isinstance(saved, list) and len(saved) == len(now) and all(map(_same_structure, saved, now))
        case float():
            return type(saved) in (int, float) and abs(saved) <= sys.float_info.max
    return type(saved) is type(now)


TrainState = Mapping[str, Stateful]
"""Everything needed to resume a run, by name."""


@dataclass(frozen=True)
class Part:
    """A stateful object made of two functions."""

    state_dict: Callable[[], State]
    load_state_dict: Callable[[Any], None]
