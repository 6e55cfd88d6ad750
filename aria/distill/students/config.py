"""Configurations of diffusers models, as plans read and write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Config = Mapping[str, Any]


def public(config: Config) -> dict[str, Any]:
    """A config without what diffusers keeps for itself, such as the folder it came from."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def numbers(name: str, value: Any, count: int) -> tuple[int, ...]:
    """Ascending numbers below ``count``, at least one."""
    whole = isinstance(value, Sequence) and all(isinstance(n, int) and not isinstance(n, bool) for n in value)
    if not whole or not value or list(value) != sorted(set(value)) or not 0 <= value[0] <= value[-1] < count:
        shown = value if isinstance(value, list) else repr(value)
        raise ValueError(f"{name} must be ascending numbers from 0 to {count - 1}, at least one, got {shown}")
    return tuple(value)
