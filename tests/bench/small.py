"""A comparison small enough to run in a second or two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aria.bench.arms import STANDARD, Arm
from aria.bench.experiment import Experiment
from aria.bench.settings import SETTINGS
from aria.bench.stacked import Recipe, Stacked
from aria.distill.settings.config import AdamW
from aria.tasks import Concepts

TASK = Concepts(groups=3, concepts=2, images=60, width=8, steps=20)
UNET = Concepts(groups=3, concepts=2, images=60, width=16, steps=20, side=16, network="unet")
VALUES = {
    "batch_size": 16,
    "optimiser": AdamW(learning_rate=2e-3, adam_weight_decay=0.01),
    "warmup": 1,
    "every": 3,
}
RECIPE = Recipe(steps=20, **VALUES)
GREEDY = """
from dataclasses import dataclass
from aria import Allocator

@dataclass(frozen=True)
class Greedy(Allocator):
    top: int = 1

    def __call__(self, estimate, mass):
        value = estimate.value
        return mass * (value >= value.sort(-1).values[..., -self.top, None])
"""
"""An allocator of a user's, as a file."""
ARMS = {arm.name: arm for arm in STANDARD}


def stacked(
    *arms: Arm,
    seeds: tuple[int, ...] = (0,),
    setting: str = "rc",
    steps: int = 0,
    task: Concepts = TASK,
    device: str = "cpu",
) -> Stacked:
    """Some arms on some seeds, after so many steps."""
    worlds = {seed: task.world(seed).to(device) for seed in seeds}
    made = Stacked(task, worlds, arms, SETTINGS[setting], RECIPE)
    for _ in range(steps):
        made.step()
    return made


def comparison(*names: str, **changes: Any) -> Experiment:
    """Standard arms by name on two seeds."""
    settings = {"task": TASK, "arms": [ARMS[name] for name in names or ("rc", "aria-q")], "seeds": (0, 1)}
    settings |= {"steps": 20, "values": VALUES, "exams": 2}
    return Experiment(**(settings | changes))


@contextmanager
def counted(seen: list[tuple[int, int]]) -> Iterator[Any]:
    """A progress bar that notes what it is called with."""
    yield lambda done, total: seen.append((done, total))
