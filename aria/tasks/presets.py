"""Tasks by name: one where adaptive allocation should help, and several where it should not."""

from __future__ import annotations

from typing import cast

from aria import registry
from aria.checks import InvalidSetting
from aria.tasks.base import AnyTask, Task
from aria.tasks.concepts import Concepts

PRESETS: dict[str, Task] = {
    "default": Concepts(),
    "homogeneous": Concepts(heterogeneity=0.0),
    "unskewed": Concepts(skew=0.0),
    "unlearnable": Concepts(unlearnable=4),
    "long": Concepts(steps=4000),
    "wide": Concepts(width=96),
    "unet": Concepts(side=16, network="unet", width=32, steps=10_000),
}
"""Groups that differ in frequency and difficulty; groups of equal difficulty; groups of equal frequency; a quarter of
the groups unlearnable; twice the steps; a student twice as wide; 16 × 16 images, a UNet and five times the steps."""

QUICK = Concepts(groups=8, concepts=4, images=1000, steps=800)
"""A smaller task, for trying things out."""


def task(text: str) -> AnyTask:
    """The task that a user names: a preset, or the spec of a task in memory or on disk.

    >>> task("wide").width
    96
    >>> task("concepts(skew=0)") == task("unskewed")
    True
    """
    name = text.strip()
    if name in PRESETS:
        return PRESETS[name]
    known = [*PRESETS, *registry.available(AnyTask)]
    if name.isidentifier() and name not in known:
        message = f"unknown task {name!r}{registry.hint(name, known)}; there are: {', '.join(known)}"
        raise InvalidSetting("task", "unknown", message)
    return cast(AnyTask, registry.resolve(name, AnyTask))
