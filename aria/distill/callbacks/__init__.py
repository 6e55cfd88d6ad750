"""What happens beside training: logs, checkpoints, validation."""

from aria.distill.callbacks.checkpoints import Checkpoints
from aria.distill.callbacks.grids import Grids
from aria.distill.callbacks.log import Log
from aria.distill.distiller import Callback

__all__ = ["Callback", "Checkpoints", "Grids", "Log"]
