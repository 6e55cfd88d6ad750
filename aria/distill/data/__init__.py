"""Conditions, encoded once: a store on the disk, and serving from where it is read fastest."""

from aria.distill.data.conditions import Conditions
from aria.distill.data.encode import build_conditions

__all__ = ["Conditions", "build_conditions"]
