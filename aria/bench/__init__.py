"""Ways to allocate training effort, compared in pairs on distillations: ``aria bench`` in Python."""

from typing import TYPE_CHECKING

from aria import lazy

if TYPE_CHECKING:
    from aria.bench.arms import SETTINGS, STANDARD, Arm, Setting
    from aria.bench.experiment import Experiment
    from aria.bench.running import run_experiment
    from aria.bench.stacked import Recipe

__all__ = ["SETTINGS", "STANDARD", "Arm", "Experiment", "Recipe", "Setting", "run_experiment"]

__getattr__, __dir__ = lazy.attributes(__name__, __all__, ["arms", "experiment", "stacked", "running"])
