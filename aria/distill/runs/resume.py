"""Resuming a run: from which checkpoint, and what must not have changed since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from aria.checks import InvalidSetting
from aria.distill.data import Conditions, fingerprint
from aria.distill.data.latents import Latents
from aria.distill.engine.distiller import Distiller
from aria.distill.models.pipelines import component_of
from aria.distill.runs import checkpoint
from aria.distill.runs.plan import RunPlan
from aria.distill.settings.config import setting_names

LATEST = "latest"
DIGEST, THREADS = "digest of prompts", "CPU threads (OMP_NUM_THREADS)"


def start(plan: RunPlan, settings: dict[str, Any]) -> checkpoint.Saved | None:
    """The checkpoint that the run begins with; refuses one that it cannot continue, or that has other ``settings``."""
    wanted, found = plan.config.run.resume_from_checkpoint or "none", checkpoint.folders(plan.output)
    if wanted == "none" and found:
        raise InvalidSetting(
            "resume_from_checkpoint",
            "conflict",
            f"{plan.output} holds checkpoints of an earlier run: resume it (--resume_from_checkpoint latest), "
            "remove them or choose another folder",
        )
    if wanted in ("none", LATEST):
        saved = checkpoint.newest(plan.output)
    else:
        inside = plan.output / wanted
        saved = checkpoint.verified(inside if inside.is_dir() else Path(wanted))
    if saved is None:
        return None
    if (step := saved.index["step"]) > plan.loop.steps:
        raise InvalidSetting(
            "max_train_steps",
            "range",
            f"{saved.folder} is beyond max_train_steps={plan.loop.steps}: a run cannot be shortened; choose another "
            "folder",
        )
    if wanted != LATEST and (newer := [path for path in found if checkpoint.step_of(path) > step]):
        raise InvalidSetting(
            "resume_from_checkpoint",
            "conflict",
            f"{newer[-1]} is newer than {wanted}: remove it first, or continue in another folder",
        )
    saved.check_same(settings)
    return saved


def agree(saved: checkpoint.Saved | None, accelerator: Accelerator) -> None:
    """Refuse to go on if processes begin with different checkpoints, for instance since one of them reads a damaged
    copy."""
    own = torch.tensor([-1 if saved is None else saved.index["step"]], device=accelerator.device)
    if len(steps := sorted(set(accelerator.gather(own).tolist()))) > 1:
        shown = ", ".join("none" if step < 0 else f"that of step {step}" for step in steps)
        raise ValueError(f"processes found different checkpoints to resume from: {shown}")


def known(plan: RunPlan, accelerator: Accelerator) -> dict[str, Any]:
    """What must be the same when a run is resumed, as far as it is known without models and data."""
    config = plan.config
    later = {*setting_names(may_change=True), "ahead"}  # which counts if conditions are read from the disk
    settings = {name: value for name, value in config.flat().items() if name not in later}
    if not config.optimiser.lr_scheduler.startswith("constant"):
        settings["max_train_steps"] = plan.loop.steps  # the learning rate depends on the last step
    settings["mixed_precision"] = accelerator.mixed_precision
    on_cpu = accelerator.device.type == "cpu"
    settings[THREADS] = torch.get_num_threads() if on_cpu else None  # which decide in what order sums are taken
    settings["samples of a step"] = plan.loop.samples * accelerator.num_processes
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def opened(distiller: Distiller, conditions: Conditions, images: Latents) -> dict[str, Any]:
    """What else must be the same: what models and data decide."""
    layers = [list(pair) for layers in distiller.layers.values() for pair in layers]
    found = {"ahead": distiller.source.ahead, "layers compared": layers, "images": len(images)}
    found |= {"prompts with captions": len(conditions), DIGEST: conditions.prompts.digest()}
    stores = {"conditions": conditions.store, "images": images.store}
    return found | {f"{name}: {part}": value for name, s in stores.items() for part, value in s.fingerprint.items()}


def teacher_identity(pipeline: Any) -> dict[str, Any]:
    """Fingerprint of the teacher, before the engine converts it to the precision of the run."""
    return fingerprint.model(pipeline, getattr(pipeline, component_of(pipeline)), torch.float32)
