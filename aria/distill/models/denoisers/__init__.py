"""Adapters: the only files that depend on the inputs and outputs of a diffusers model.

A new family is one file with a :class:`Denoiser` and one line here; :func:`aria.testing.check_denoiser` compares it
with its pipeline.
"""

from typing import Any

from aria.distill.models.denoisers.aura_flow import AuraFlow
from aria.distill.models.denoisers.base import Condition, Denoiser, Evaluate
from aria.distill.models.denoisers.dit import DiT, keep_labels
from aria.distill.models.denoisers.flux import Flux
from aria.distill.models.denoisers.flux2 import Flux2, Flux2Klein
from aria.distill.models.denoisers.ltx import LTX
from aria.distill.models.denoisers.lumina2 import Lumina2
from aria.distill.models.denoisers.pixart import PixArt
from aria.distill.models.denoisers.qwen_image import QwenImage
from aria.distill.models.denoisers.sana import Sana
from aria.distill.models.denoisers.stable_diffusion import StableDiffusion
from aria.distill.models.denoisers.stable_diffusion_3 import StableDiffusion3
from aria.distill.models.denoisers.stable_diffusion_xl import StableDiffusionXL
from aria.distill.models.denoisers.wan import Wan
from aria.distill.models.denoisers.z_image import ZImage

FAMILIES: tuple[type[Denoiser], ...] = (
    StableDiffusion,
    StableDiffusionXL,
    StableDiffusion3,
    Flux,
    Flux2,
    Flux2Klein,
    QwenImage,
    AuraFlow,
    Lumina2,
    ZImage,
    PixArt,
    Sana,
    DiT,
    Wan,
    LTX,
)


def of(pipeline: Any) -> Denoiser:
    """The adapter for a pipeline; the error for an unknown family lists the known ones."""
    name = type(pipeline).__name__
    for family in FAMILIES:
        if name in family.pipelines:
            adapter = family()
            if (why := adapter.refusal(pipeline)) is not None:
                raise ValueError(why)
            return adapter
    known = ", ".join(name for family in FAMILIES for name in family.pipelines)
    raise ValueError(f"no adapter for a {name}; there are adapters for: {known}")


__all__ = [
    "FAMILIES",
    "LTX",
    "AuraFlow",
    "Condition",
    "Denoiser",
    "DiT",
    "Evaluate",
    "Flux",
    "Flux2",
    "Flux2Klein",
    "Lumina2",
    "PixArt",
    "QwenImage",
    "Sana",
    "StableDiffusion",
    "StableDiffusion3",
    "StableDiffusionXL",
    "Wan",
    "ZImage",
    "keep_labels",
    "of",
]
