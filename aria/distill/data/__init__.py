"""Prompts and images, encoded once: stores on disk, and serving them from where they are read fastest."""

from aria.distill.data.conditions import Conditions
from aria.distill.data.encode import build_conditions

__all__ = ["Conditions", "build_conditions"]
