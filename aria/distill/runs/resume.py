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


def resume(plan: RunPlan, distiller: Distiller, settings: dict[str, Any]) -> None:
    """Load the checkpoint that ``--resume_from_checkpoint`` names, if any; its ``settings`` must equal the run's."""
    wanted, output = plan.config.run.resume_from_checkpoint or "none", plan.output
    if wanted == "none":
        if checkpoint.folders(output):
            raise ValueError(
                f"{output} holds checkpoints of an earlier run: resume it (--resume_from_checkpoint latest), "
                "remove them or choose another folder"
            )
        return
    _check_length(plan, output / wanted if wanted != "latest" else output)
    if wanted == "latest":
        found = checkpoint.load_newest(distiller.state(), output, settings=settings)
    else:
        found = _named(wanted, output)
        checkpoint.load(distiller.state(), found, settings=settings)
        if newer := [path for path in checkpoint.folders(output) if checkpoint.step_of(path) > distiller.step_count]:
            raise ValueError(f"{newer[-1]} is newer than {wanted}: remove it first, or continue in another folder")
    if found is not None:
        log.info("resuming from %s", found)


def _check_length(plan: RunPlan, place: Path) -> None:
    """Refuse a run with fewer steps than its newest checkpoint."""
    newest = (checkpoint.folders(place) or [place])[-1]
    if not newest.is_dir():
        return
    if checkpoint.step_of(newest) > plan.loop.steps:
        raise InvalidSetting(
            "max_train_steps",
            "range",
            f"{newest} is beyond max_train_steps={plan.loop.steps}: a run cannot be shortened; choose another folder",
        )


def _named(wanted: str, output: Path) -> Path:
    """A checkpoint by its name in the output folder, or by its path."""
    return output / wanted if (output / wanted).is_dir() else Path(wanted)


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
    counts = {"prompts with captions": len(conditions), "their texts": conditions.prompts.texts.digest()}
    stores = {"conditions": conditions.store, "images": images.store}
    prints = {f"{name}: {part}": value for name, s in stores.items() for part, value in s.fingerprint.items()}
    return counts | {"images": len(images)} | prints
