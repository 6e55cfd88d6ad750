"""The memory of a tracker inside another tracker's memory."""

from __future__ import annotations

from aria.interfaces import State, Tracker

PREFIX = "of."


def check(outer: Tracker, inner: object) -> None:
    """Refuse anything but a tracker."""
    if not isinstance(inner, Tracker):
        raise ValueError(f"{type(outer).__name__}(of=…) takes a tracker, got {inner!r}")


def wrap(inner: State) -> State:
    """The inner memory under prefixed names."""
    return {PREFIX + name: tensor for name, tensor in inner.items()}


def unwrap(state: State) -> State:
    """The inner memory out of the outer one."""
    return {name.removeprefix(PREFIX): tensor for name, tensor in state.items() if name.startswith(PREFIX)}
