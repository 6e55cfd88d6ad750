"""The result of a comparison as one JSON object: what was asked, on what machine, the table, and all numbers."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from aria import registry
from aria.bench import device, lookahead, table
from aria.bench.compare import Comparison, Record
from aria.bench.queue import Queue

FORMAT = "aria-bench/1"
LIBRARIES = ("aria-distill", "torch", "numpy", "diffusers", "scipy")


def collect(
    comparison: Comparison | Queue,
    records: Sequence[Record],
    *,
    command: str = "",
    seconds: float = 0.0,
    baseline: str = table.BASELINE,
) -> dict[str, Any]:
    """Everything a reader needs to judge or repeat the comparison.

    Args:
        records: of all cells, as ``comparison.run`` returns them.
        command: that made them.
        seconds: it took this time; cells that were there already took theirs before.
        baseline: the arm that changes are told against.
    """
    groups = table.groups_of(records)
    recipe = dict(comparison.values) if isinstance(comparison, Queue) else asdict(comparison.recipe)
    return {
        "format": FORMAT,
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "machine": machine(device.chosen(comparison.device), threads=1 if isinstance(comparison, Comparison) else None),
        "task": registry.spec(comparison.task),
        "setting": asdict(comparison.setting),
        "recipe": recipe,
        "exams": comparison.exams,
        "seeds": list(comparison.seeds),
        "groups": groups,
        "baseline": baseline,
        "lookahead": lookahead.TURNS if isinstance(comparison, Comparison) and comparison.lookahead else None,
        "arms": [asdict(arm) for arm in comparison.arms],
        "table": table.rows(records, groups, baseline),
        "records": list(records),
    }


def machine(where: str = "cpu", threads: int | None = None) -> dict[str, Any]:
    """What speed and rounding depend on; ``where`` is the device that models computed on, in so many ``threads``."""
    return {
        **device.described(where),
        "architecture": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": threads or torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: found for name in LIBRARIES if (found := _version(name)) is not None},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
