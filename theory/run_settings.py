"""Whether the allocator of a training run depended on the estimates, read from the ``config.json`` beside its log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

IGNORE_ESTIMATES = ("pool", "uniform")
"""Allocators whose visits do not depend on the estimates. Under any other the drift may react to past noise."""


class Feedback(NamedTuple):
    """Whether drift and visits of a run may depend on its estimates, and one line that says why."""

    adaptive: bool
    reason: str


def feedback_of(log: str | Path) -> Feedback:
    """The contract that the bounds need for the run that wrote ``log``; adaptive if the allocator is unknown.

    >>> feedback_of("no-such-folder/discrepancies.jsonl").adaptive
    True
    """
    path = Path(log).parent / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _unknown("there is no config.json beside the log")
    except (OSError, ValueError) as error:
        return _unknown(f"{path} cannot be read ({type(error).__name__})")
    spec = _allocator(config)
    if spec is None:
        return _unknown(f"{path} names no allocator")
    if spec.split("(")[0].strip() in IGNORE_ESTIMATES:
        return Feedback(False, f"the allocator {spec!r} ignores the estimates: oblivious bounds apply")
    return Feedback(True, f"the allocator {spec!r} reacts to the estimates: adaptive bounds apply")


def _unknown(reason: str) -> Feedback:
    return Feedback(True, f"the allocator is not known, {reason}: adaptive bounds are used")


def _allocator(config: object) -> str | None:
    """The setting ``allocation.allocator`` of ``aria distill``, in sections or flat."""
    if not isinstance(config, dict):
        return None
    section = config.get("allocation", config)
    spec = section.get("allocator") if isinstance(section, dict) else None
    return spec if isinstance(spec, str) else None
