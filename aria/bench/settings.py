"""The settings by name that arms of a comparison share, and the names of arms and matrices; nothing heavy is loaded, so
that a misspelt name is refused at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """What all arms of a comparison share: how often conditions are replaced, and the weights of noise levels."""

    replacement: str
    weighting: str


SETTINGS = {
    "rc": Setting("exponential(5.0)", "uniform"),
    "tuned": Setting("exponential(1.0)", "velocity"),
}
"""Random conditioning as published; and tuned by hand: more conditions are replaced, and noise levels are weighted by
velocity."""

STANDARD_NAMES = (
    "paired", "rc", "sqrt-pool", "region-uniform", "condition-uniform", "aria-p", "aria-q", "aria-r", "aria",
    "aria-static", "oracle",
)  # fmt: skip
"""The names of :data:`aria.bench.arms.STANDARD`."""
MATRIX_NAMES = ("emoji", "emoji-core")
"""The names of :data:`aria.bench.matrix.MATRICES`."""
