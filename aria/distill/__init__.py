"""One GPU distillation engine on PyTorch and diffusers."""

from typing import TYPE_CHECKING

from aria import lazy

if TYPE_CHECKING:
    from aria.distill.data import Conditions
    from aria.distill.data.latents import Latents
    from aria.distill.data.memory import EncodingsInMemory, LatentsInMemory
    from aria.distill.engine.batches import Batch, Encodings, Images
    from aria.distill.engine.distiller import Callback, Distiller, NonFiniteLoss
    from aria.distill.engine.on_policy import OnPolicy
    from aria.distill.evaluation.grids import generation_gap
    from aria.distill.evaluation.quantise import open_quantised
    from aria.distill.models.denoisers.guidance import GUIDANCE, guidance_argument, take_guidance
    from aria.distill.models.pipelines import open_model, open_pipeline
    from aria.distill.models.schedule import NoiseSchedule
    from aria.distill.settings.config import AdamW
    from aria.distill.teachers.guidance import guided
    from aria.distill.teachers.halving import halved
    from aria.distill.teachers.teacher import Teacher

__all__ = [
    "GUIDANCE",
    "AdamW",
    "Batch",
    "Callback",
    "Conditions",
    "Distiller",
    "Encodings",
    "EncodingsInMemory",
    "Images",
    "Latents",
    "LatentsInMemory",
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
        *("engine.batches", "engine.distiller", "engine.on_policy", "settings.config"),
        *("models.pipelines", "models.schedule", "models.denoisers.guidance"),
        *("data.conditions", "data.latents", "data.memory", "teachers.teacher", "teachers.guidance"),
        *("teachers.halving", "evaluation.grids", "evaluation.quantise"),
    ],
)
