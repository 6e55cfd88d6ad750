"""Captioned scenes drawn in code, with a trained teacher in a real pipeline folder."""

from aria.tasks.shapes.scenes import Scenes
from aria.tasks.shapes.task import Shapes

__all__ = ["Scenes", "Shapes"]
