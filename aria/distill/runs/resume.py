"""What a run must share with the one it goes on from."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from aria.distill.data import Conditions, fingerprint
from aria.distill.data.latents import Latents
from aria.distill.engine.distiller import Distiller
from aria.distill.models.pipelines import component_of
from aria.distill.runs import checkpoint
from aria.distill.settings.config import Config, setting_names

log = logging.getLogger(__name__)


def go_on(config: Config, distiller: Distiller, target: Path, shared: dict[str, Any]) -> None:
    """Take up the checkpoint that the settings name, if there is one; what it did not share is refused."""
    told = config.run.resume_from_checkpoint or "none"
    if told == "none":
        if checkpoint.folders(target):
            raise ValueError(
                f"{target} holds checkpoints of an earlier run: resume it (--resume_from_checkpoint latest), "
                "remove them or choose another folder"
            )
        return
    found = checkpoint.latest(target) if told == "latest" else _named(told, target)
    if found is None:
        return
    checkpoint.load(distiller, found, settings=shared)
    newer = [folder for folder in checkpoint.folders(target) if checkpoint.step_of(folder) > distiller.step_count]
    if newer and told != "latest":
        raise ValueError(f"{newer[-1]} is newer than {told}: remove it first, or go on elsewhere")
    log.info("going on from %s", found)


def _named(told: str, target: Path) -> Path:
    """A checkpoint by its path, or by its name in the output folder."""
    return target / told if (target / told).is_dir() else Path(told)


def identity(pipeline: Any) -> dict[str, Any]:
    """The teacher's, before the engine turns it to the precision of the run."""
    return fingerprint.model(pipeline, getattr(pipeline, component_of(pipeline)), torch.float32)


def shared(config: Config, distiller: Distiller, conditions: Conditions, images: Latents) -> dict[str, Any]:
    """The settings that enter the arithmetic, and the conditions and images, wherever they lie."""
    return _settings(config, distiller) | _cached(conditions, images)


def _settings(config: Config, distiller: Distiller) -> dict[str, Any]:
    ranks = distiller.accelerator.num_processes
    told = {name: value for name, value in config.flat().items() if name not in setting_names(may_change=True)}
    if not config.optimiser.lr_scheduler.startswith("constant"):
        told["max_train_steps"] = distiller.steps  # the learning rate falls towards the last step
    told["mixed_precision"] = distiller.accelerator.mixed_precision
    told["samples of a step"] = distiller.batch_size * distiller.accumulation * ranks
    told["ahead"] = distiller.batches.ahead
    told["layers compared"] = [list(pair) for pair in distiller.pairs]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}


def _cached(conditions: Conditions, images: Latents) -> dict[str, Any]:
    told = {"prompts with captions": len(conditions), "their texts": conditions.prompts.texts.digest()}
    told["images"] = len(images)
    stores = {"conditions": conditions.store, "images": images.store}
    return told | {f"{name}: {part}": value for name, s in stores.items() for part, value in s.fingerprint.items()}
