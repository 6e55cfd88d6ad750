"""One GPU distillation engine on PyTorch and diffusers."""

from typing import TYPE_CHECKING

from aria import lazy

if TYPE_CHECKING:
    from aria.distill.batches import Batch, Encodings, Images
    from aria.distill.conditions import Conditions
    from aria.distill.denoisers.guidance import GUIDANCE, guidance_argument, take_guidance
    from aria.distill.distiller import Callback, Distiller, NonFiniteLoss
    from aria.distill.grids import generation_gap
    from aria.distill.guidance import guided
    from aria.distill.halving import halved
    from aria.distill.latents import Latents
    from aria.distill.on_policy import OnPolicy
    from aria.distill.optimiser import AdamW
    from aria.distill.pipelines import open_model, open_pipeline
    from aria.distill.quantise import open_quantised
    from aria.distill.schedule import NoiseSchedule
    from aria.distill.teacher import Teacher

__all__ = [
    "GUIDANCE",
    "AdamW",
    "Batch",
    "Callback",
    "Conditions",
    "Distiller",
    "Encodings",
    "Images",
    "Latents",
    "NoiseSchedule",
    "NonFiniteLoss",
    "OnPolicy",
    "Teacher",
    "generation_gap",
    "guidance_argument",
    "guided",
    "halved",
    "open_model",
    "open_pipeline",
    "open_quantised",
    "take_guidance",
]

__getattr__, __dir__ = lazy.attributes(
    __name__,
    __all__,
    [
        *("batches", "denoisers.guidance", "distiller", "grids", "guidance", "halving", "latents"),
        *("on_policy", "optimiser", "pipelines", "quantise", "schedule", "teacher", "conditions"),
    ],
)
