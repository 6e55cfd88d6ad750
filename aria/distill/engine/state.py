"""What a run has to save, as named parts with one interface."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

State = Mapping[str, Any]
"""Tensors and values of JSON by name."""


class Stateful(Protocol):
    """An object that can be saved. Every rank calls ``state_dict``; what it returns on the first one is written."""

    def state_dict(self) -> State: ...

    def load_state_dict(self, state: Any) -> None: ...


@runtime_checkable
class Exported(Protocol):
    """A stateful object that is a model as well, which others open by diffusers' ``from_pretrained``."""

    file: str
    """Where in a checkpoint its tensors lie."""

    def export(self, folder: Path | None) -> None:
        """Write the rest that ``from_pretrained`` needs into a checkpoint. Every rank calls it, one with a folder."""


def check_alike(name: str, saved: Any, now: Any) -> None:
    """Refuse JSON that is not built as the run's own: the same names, as many of each, of the same types, finite."""
    if not _alike(saved, now):
        raise ValueError(f"{name} is not as this run has it: {saved!r:.100}")


def _alike(saved: Any, now: Any) -> bool:
    match now:
        case dict():
            return isinstance(saved, dict) and saved.keys() == now.keys() and all(_alike(saved[k], now[k]) for k in now)
        case list() | tuple():
            return isinstance(saved, list) and len(saved) == len(now) and all(map(_alike, saved, now))
        case float():
            return type(saved) in (int, float) and abs(saved) <= sys.float_info.max
    return type(saved) is type(now)


TrainState = Mapping[str, Stateful]
"""Everything a resumed run needs, by name."""


@dataclass(frozen=True)
class Part:
    """A stateful object made of two functions."""

    state_dict: Callable[[], State]
    load_state_dict: Callable[[Any], None]
