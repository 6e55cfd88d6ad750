"""The teacher's denoising model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel

from aria.distill.models.pipelines import open_model
from aria.distill.students.transformer.family import FAMILIES, family_of


def open_teacher(path: str | Path) -> Any:
    """The UNet or transformer of a pipeline's folder, or of its own folder; another model is refused by name."""
    model = open_model(path)
    if not isinstance(model, UNet2DConditionModel) and family_of(type(model)) is None:
        known = ", ".join(["UNet2DConditionModel", *(family.model.__name__ for family in FAMILIES)])
        raise ValueError(f"{path} holds a {type(model).__name__}; a student is made from a {known}")
    return model
