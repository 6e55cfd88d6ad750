"""Resuming a run: from which checkpoint, and what must not have changed since."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from aria.checks import InvalidSetting
from aria.distill.data import Conditions, fingerprint
from aria.distill.data.latents import Latents
from aria.distill.engine.distiller import Distiller
from aria.distill.models.pipelines import component_of
from aria.distill.runs import checkpoint
from aria.distill.runs.plan import RunPlan
from aria.distill.settings.config import setting_names

log = logging.getLogger(__name__)


LATEST = "latest"
TEXTS = "their texts"


def check(plan: RunPlan) -> Path | None:
    """The checkpoint that the run begins with, as far as its folder tells; refuses one that it cannot continue."""
    wanted, found = plan.config.run.resume_from_checkpoint or "none", checkpoint.folders(plan.output)
    if wanted == "none" and found:
        raise InvalidSetting(
            "resume_from_checkpoint",
            "conflict",
            f"{plan.output} holds checkpoints of an earlier run: resume it (--resume_from_checkpoint latest), "
            "remove them or choose another folder",
        )
    if wanted in ("none", LATEST):
        start = found[-1] if found else None
    else:
        start = plan.output / wanted if (plan.output / wanted).is_dir() else Path(wanted)
        checkpoint.check(start)
    if start is None:
        return None
    step = checkpoint.step_of(start)
    if step > plan.loop.steps:
        raise InvalidSetting(
            "max_train_steps",
            "range",
            f"{start} is beyond max_train_steps={plan.loop.steps}: a run cannot be shortened; choose another folder",
        )
    if newer := [path for path in found if checkpoint.step_of(path) > step]:
        raise InvalidSetting(
            "resume_from_checkpoint",
            "conflict",
            f"{newer[-1]} is newer than {wanted}: remove it first, or continue in another folder",
        )
    return start


def texts(plan: RunPlan) -> str | None:
    """The digest of the prompts that the run was started with; None if it is not resumed, or from a damaged checkpoint
    that says nothing."""
    start = check(plan)
    if start is None:
        return None
    try:
        return checkpoint.check(start)["settings"].get(TEXTS)  # type: ignore[no-any-return]
    except ValueError:
        return None  # loading skips this checkpoint with a warning, and compares the prompts again


def resume(plan: RunPlan, distiller: Distiller, settings: dict[str, Any]) -> None:
    """Load the checkpoint that ``--resume_from_checkpoint`` names, if any; its ``settings`` must equal the run's."""
    found = check(plan)
    if found is None:
        return
    if plan.config.run.resume_from_checkpoint == LATEST:
        found = checkpoint.load_newest(distiller.state(), plan.output, settings=settings)
    else:
        checkpoint.load(distiller.state(), found, settings=settings)
    log.info("resuming from %s", found)


def teacher_identity(pipeline: Any) -> dict[str, Any]:
    """Fingerprint of the teacher, before the engine converts it to the precision of the run."""
    return fingerprint.model(pipeline, getattr(pipeline, component_of(pipeline)), torch.float32)


def shared(plan: RunPlan, distiller: Distiller, conditions: Conditions, images: Latents) -> dict[str, Any]:
    """Everything that must be the same when a run is resumed: settings that affect the results, and the data."""
    config, accelerator = plan.config, distiller.accelerator
    settings = {name: value for name, value in config.flat().items() if name not in setting_names(may_change=True)}
    if not config.optimiser.lr_scheduler.startswith("constant"):
        settings["max_train_steps"] = distiller.steps  # the learning rate depends on the last step
    settings["mixed_precision"] = accelerator.mixed_precision
    settings["samples of a step"] = plan.loop.samples * accelerator.num_processes
    settings["ahead"] = distiller.source.ahead
    settings["layers compared"] = [list(pair) for layers in distiller.layers.values() for pair in layers]
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    return settings | _data(conditions, images)


def _data(conditions: Conditions, images: Latents) -> dict[str, Any]:
    counts = {"prompts with captions": len(conditions), TEXTS: conditions.prompts.texts.digest()}
    stores = {"conditions": conditions.store, "images": images.store}
    prints = {f"{name}: {part}": value for name, s in stores.items() for part, value in s.fingerprint.items()}
    return counts | {"images": len(images)} | prints
