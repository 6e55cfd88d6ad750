"""Callbacks of the training loop: logs, checkpoints, validation."""

from aria.distill.engine.distiller import Callback
from aria.distill.runs.callbacks.checkpoints import Checkpoints
from aria.distill.runs.callbacks.grids import Grids
from aria.distill.runs.callbacks.log import Log

__all__ = ["Callback", "Checkpoints", "Grids", "Log"]
