"""The three students of BK-SDM (Kim et al., arXiv 2305.15798), as block maps for any UNet with enough layers.

- ``bk-base``: one resnet (and attention) instead of two in every down stage, two instead of three in every up stage.
  A down stage keeps its first; an up stage its first and its last, whose inputs are as wide as before.
- ``bk-small``: bk-base without the mid block.
- ``bk-tiny``: bk-small without the innermost stage, so without the downsampler of the stage before it.
"""

from __future__ import annotations

from typing import Any

from aria.distill.students.config import Config
from aria.distill.students.unet.stages import read_stages

PRESETS = ("bk-base", "bk-small", "bk-tiny")


def preset(name: str, config: Config) -> dict[str, Any]:
    """The block map of a preset, for a teacher with ``config``."""
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    stages = read_stages(config)
    count = len(stages.down)
    if (shallow := min(stage.resnets for stage in stages.down)) < 2:
        raise ValueError(f"{name} needs at least 2 layers in every stage, this UNet has {shallow}")
    if name == "bk-tiny":
        _check_tiny([stage.channels for stage in stages.down])
    keep: dict[str, Any] = {
        "down": {str(s): {"resnets": [0]} for s in range(count)},
        "mid": stages.mid is not None,
        "up": {str(i): {"resnets": [0, stage.resnets - 1]} for i, stage in enumerate(stages.up)},
    }
    if name != "bk-base":
        keep["mid"] = False
    if name == "bk-tiny":
        keep["down"][str(count - 1)] = False
        keep["up"]["0"] = False
    return keep


def _check_tiny(channels: list[int]) -> None:
    """The up stage that becomes the first must still read as many channels from below."""
    if len(channels) < 3:
        raise ValueError(f"bk-tiny needs at least 3 stages, this UNet has {len(channels)}")
    if channels[-1] != channels[-2]:
        raise ValueError(f"bk-tiny needs two innermost stages of one width, this UNet's have {channels[-2:]} channels")
