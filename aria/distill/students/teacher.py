"""The teacher's UNet."""

from __future__ import annotations

from pathlib import Path

from diffusers import UNet2DConditionModel

from aria.distill.pipelines import open_model


def open_teacher(path: str | Path) -> UNet2DConditionModel:
    """The UNet of a pipeline's folder, or of its own folder; another model is refused by name."""
    model = open_model(path)
    if not isinstance(model, UNet2DConditionModel):
        raise ValueError(f"{path} holds a {type(model).__name__}; a student is made from a UNet2DConditionModel")
    return model
