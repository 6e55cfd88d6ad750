"""From a teacher on disk to a student on disk, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aria import checks

from .block_map import public
from .folder import check_output, config_digest, write_student
from .inherit import INITS, Init
from .measure import TOKENS, size
from .plan import build_student, plan_student
from .teacher import open_teacher


def prune(
    teacher: str | Path,
    output: str | Path,
    *,
    preset: str | None = None,
    block_map: Mapping[str, Any] | None = None,
    width: float | None = None,
    block_out_channels: Sequence[int] | None = None,
    init: Init = "slice",
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the student of the teacher in the folder ``teacher`` to the folder ``output``; return its record."""
    checks.one_of("init", init, INITS)
    check_output(Path(output), overwrite=overwrite)
    model = open_teacher(teacher)
    config = public(model.config)
    plan = plan_student(config, preset=preset, block_map=block_map, width=width, block_out_channels=block_out_channels)
    sizes = {"teacher": size(config), "student": size(plan.config)}
    student, inheritance = build_student(plan, model, init=init, seed=seed)
    record = {
        "teacher": {"path": str(teacher), "class": type(model).__name__, "config_sha256": config_digest(config)},
        "blocks": {"preset": preset, "block_map": block_map},
        "width": {"factor": width, "block_out_channels": plan.config["block_out_channels"]},
        "init": {"how": init, "seed": seed, **inheritance.counts()},
        "parameters": {name: found.parameters for name, found in sizes.items()},
        "macs": {name: found.macs for name, found in sizes.items()} | {"tokens": TOKENS},
        "feature_pairs": plan.feature_pairs,
    }
    write_student(output, student, record, inheritance, overwrite=overwrite)
    return record
