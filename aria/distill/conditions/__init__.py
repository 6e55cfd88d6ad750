"""Conditions, encoded once: a store on the disk, and serving from where it is read fastest."""

from aria.distill.conditions.encode import build_conditions
from aria.distill.conditions.serve import Conditions
from aria.distill.conditions.store import Store, Writer
from aria.distill.conditions.table import Pending, Table

__all__ = ["Conditions", "Pending", "Store", "Table", "Writer", "build_conditions"]
