"""How a teacher of scenes is made: everything that determines it, in one value with a hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from aria import checks
from aria.checks import InvalidSetting
from aria.distill.settings.choices import PREDICTIONS
from aria.tasks.course import Course
from aria.tasks.shapes.scenes import Scenes

VERSION = 1
"""Raised whenever the drawing or the training code changes, so that older teachers are not taken for new ones."""


@dataclass(frozen=True)
class Recipe:
    """The scenes, the sizes of the three models, and how long each is trained."""

    scenes: Scenes = field(default_factory=Scenes)
    vae_channels: tuple[int, ...] = (16, 32, 32)
    """Widths of the autoencoder's three stages: 32 × 32 pixels become 8 × 8 latents."""
    unet_channels: tuple[int, ...] = (32, 64)
    text_width: int = 64
    text_layers: int = 2
    vae: Course = field(default=Course(1000, 16, 4e-3))
    unet: Course = field(default=Course(2400, 32, 2e-3))
    """Training of the denoiser and the text encoder, which are trained together."""
    reader: Course = field(default=Course(250, 64, 3e-3))
    """Training of the classifier that reads attributes from images."""
    images: int = 4096
    """Number of drawings on whose latents the denoiser is trained."""
    prediction_type: str = "v_prediction"
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.vae_channels) != 3:
            raise InvalidSetting("vae_channels", "range", f"vae_channels must have 3 widths, got {self.vae_channels}")
        checks.whole("text_width", self.text_width, least=8)
        checks.whole("text_layers", self.text_layers, least=1)
        checks.whole("images", self.images, least=1)
        checks.one_of("prediction_type", self.prediction_type, PREDICTIONS[:2])

    def digest(self) -> str:
        """A hash of the recipe, the same in every process."""
        return hashlib.sha256(json.dumps(self.record(), sort_keys=True).encode()).hexdigest()[:16]

    def record(self) -> dict[str, Any]:
        """The recipe as plain values."""
        scenes = {name: getattr(self.scenes, name) for name in ("shapes", "colours", "pairs", "skew")}
        rest = {name: value for name, value in asdict(self).items() if name != "scenes"}
        record: dict[str, Any] = json.loads(json.dumps({"version": VERSION, "scenes": scenes, **rest}))
        return record


SMALL = Recipe()
"""For a CPU; takes ten minutes on one core."""
FULL = Recipe(
    scenes=Scenes(shapes=8, colours=8, pairs=2000),
    vae_channels=(64, 128, 128),
    unet_channels=(128, 256, 256),
    text_width=256,
    text_layers=4,
    vae=Course(4000, 128, 1e-3, 0.999),
    unet=Course(15000, 256, 5e-4, 0.999),
    reader=Course(2000, 256, 2e-3),
    images=131072,
)
"""For a GPU, in bfloat16."""
TINY = Recipe(
    scenes=Scenes(shapes=2, colours=3, pairs=12),
    vae_channels=(8, 8, 8),
    unet_channels=(8, 16),
    text_width=16,
    text_layers=1,
    vae=Course(10, 8, 3e-3),
    unet=Course(10, 8, 2e-3),
    reader=Course(10, 8, 3e-3),
    images=64,
)
"""For tests: takes seconds, and does not learn to draw."""
RECIPES = {"tiny": TINY, "small": SMALL, "full": FULL}
