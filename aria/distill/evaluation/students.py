"""Finished students, wherever they come from: pipelines, models, and models in a run's checkpoints."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers

from aria.distill.data import fingerprint
from aria.distill.models import configs, denoisers
from aria.distill.runs import checkpoint
from aria.distill.teachers import halving
from aria.fields import short
from aria.regular import is_there

SCHEDULER = Path("scheduler", "scheduler_config.json")
"""Where a pipeline's folder has its scheduler."""


def check_ended(student: Path) -> None:
    """Refuse a run that has not ended, and name the newest model of its checkpoints."""
    if found := [] if (student / "model_index.json").is_file() else checkpoint.folders(student):
        model = [found[-1], *sorted(path.parent for path in found[-1].glob("*/config.json"))][-1]  # *_ema is last
        raise ValueError(f"{student} is a run that has not ended; give a model of a checkpoint, such as {model}")


def scheduler_of(student: Path, pipeline: Any) -> Any:
    """The scheduler of a pipeline's folder, of the pipeline that holds a model, or of a checkpoint's run; a model alone
    is sampled as its teacher is."""
    folder = student.resolve().parent
    for home in (student, folder):
        if is_there(home / SCHEDULER):
            return read_scheduler(home / SCHEDULER)
    return _trained_with(folder, pipeline) if (folder / "state.json").is_file() else None


def read_scheduler(path: Path) -> Any:
    """The scheduler that a file describes."""
    config = configs.read_config(path)
    name = config.get("_class_name", "")
    kind: Any = getattr(diffusers, name, None) if isinstance(name, str) else None
    known = isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)
    if not known:
        raise ValueError(f"{path} names no scheduler of diffusers: {short(name)}")
    configs.check_config(f"{path} describes no {kind.__name__}", config, kind)
    try:
        return kind.from_config(config)
    except Exception as error:  # diffusers checks no types, so that a foreign value fails wherever it is used
        raise ValueError(f"{path} describes no {kind.__name__}: {type(error).__name__}: {error}") from error


def _trained_with(folder: Path, pipeline: Any) -> Any:
    """The scheduler with which a checkpoint's run will deliver its student, made of the teacher's as the run makes it.

    A run of another teacher's scheduler is refused: what its student predicts would be taken for something else.
    """
    run, own = checkpoint.check(folder)["settings"], denoisers.of(pipeline).model_of(pipeline)
    scheduler = pipeline.scheduler if run.get("halve_from") is None else halving.deterministic(pipeline.scheduler)
    made = fingerprint.model(SimpleNamespace(scheduler=scheduler), own, own.dtype)
    if run.get("scheduler") != made["scheduler"]:
        raise ValueError(f"{folder} was trained with another teacher's scheduler: show it beside its run's own teacher")
    prediction = run.get("student_prediction")
    changes = {} if prediction is None else {"prediction_type": prediction}
    return type(scheduler).from_config(scheduler.config, **changes)
