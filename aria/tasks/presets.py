"""Tasks by name: one where adaptive allocation should help, and several where it should not.

Importing this module does not load torch, so that a misspelt name is refused at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aria import specs
from aria.checks import InvalidSetting, hint

if TYPE_CHECKING:
    from aria.tasks.base import AnyTask

PRESETS = {
    "default": "concepts",
    "homogeneous": "concepts(heterogeneity=0.0)",
    "unskewed": "concepts(skew=0.0)",
    "unlearnable": "concepts(unlearnable=4)",
    "long": "concepts(steps=4000)",
    "wide": "concepts(width=96)",
    "unet": "concepts(side=16, network='unet', width=32, steps=10000)",
}
"""Groups that differ in frequency and difficulty; groups of equal difficulty; groups of equal frequency; a quarter of
the groups unlearnable; twice the steps; a student twice as wide; 16 × 16 images, a UNet and five times the steps."""

QUICK_STEPS = 800
QUICK = f"concepts(groups=8, concepts=4, images=1000, steps={QUICK_STEPS})"
"""A smaller task, for trying things out."""
QUICK_STEPS_ON_DISK, QUICK_EXAMS_ON_DISK = 100, 2
"""Steps and evaluations of a run that tries out a task on disk."""


def task(text: str) -> AnyTask:
    """The task that a user names: a preset, or the spec of a task in memory or on disk.

    >>> task("wide").width
    96
    >>> task("concepts(skew=0)") == task("unskewed")
    True
    """
    name = text.strip()
    known = [*PRESETS, *specs.available(specs.kind_called("task"))]
    if name.isidentifier() and name not in known:
        message = f"unknown task {name!r}{hint(name, known)}; there are: {', '.join(known)}"
        raise InvalidSetting("task", "unknown", message)
    spec = PRESETS.get(name, name)
    specs.check(spec, "task")
    from aria import registry
    from aria.tasks.base import AnyTask

    return cast("AnyTask", registry.resolve(spec, AnyTask))
