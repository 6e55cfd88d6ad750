"""Conditions, encoded once: a store on the disk, and serving from where it is read fastest."""

from aria.distill.conditions.encode import build_conditions
from aria.distill.conditions.serve import Conditions

__all__ = ["Conditions", "build_conditions"]
