"""Captioned scenes drawn in code, with a trained teacher in a diffusers pipeline folder."""

from aria.tasks.course import Course, fit
from aria.tasks.shapes.scenes import Scenes
from aria.tasks.shapes.task import Shapes

__all__ = ["Course", "Scenes", "Shapes", "fit"]
