"""The result of a comparison as one JSON object: its settings, the machine, the table, and all numbers."""

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
from aria.bench.experiment import Experiment
from aria.bench.records import Record
from aria.bench.running import runner_of

FORMAT = "aria-bench/1"
LIBRARIES = ("aria-distill", "torch", "numpy", "diffusers", "scipy")


def collect(
    experiment: Experiment,
    records: Sequence[Record],
    *,
    command: str = "",
    seconds: float = 0.0,
    baseline: str = table.BASELINE,
) -> dict[str, Any]:
    """Everything a reader needs to judge or repeat the experiment.

    Args:
        records: the records of all cells, as ``run_experiment`` returns them.
        command: the command line that made them.
        seconds: how long this took, without cells that an earlier command had computed.
        baseline: the arm that changes are relative to.
    """
    groups, runner = table.groups_of(records), runner_of(experiment)
    return {
        "format": FORMAT,
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "machine": machine(device.chosen(experiment.device), runner.threads),
        "task": registry.spec(experiment.task),
        "setting": asdict(experiment.setting),
        "recipe": runner.recipe(),
        "exams": experiment.exams,
        "seeds": list(experiment.seeds),
        "groups": groups,
        "baseline": baseline,
        "lookahead": lookahead.TURNS if experiment.lookahead else None,
        "arms": [asdict(arm) for arm in experiment.arms],
        "table": table.rows(records, groups, baseline),
        "records": list(records),
    }


def machine(where: str = "cpu", threads: int | None = None) -> dict[str, Any]:
    """Everything that speed and rounding depend on.

    Args:
        where: the device that models computed on.
        threads: number of CPU threads; by default PyTorch's current number.
    """
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
