"""Narrower stages: which widths a config can have.

Every width must be a multiple of the groups of GroupNorm and, where the stage has attention, of the number of heads
(where the teacher has the same number in every stage, as Stable Diffusion 1) or of the width of a head (where it has a
number for each stage, as Stable Diffusion 2 and XL): the number, or the width, of the heads stays what it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from aria import checks
from aria.distill.students.config import Config
from aria.distill.students.unet.stages import read_stages


def steps(config: Config) -> list[int]:
    """What the width of each stage must be a multiple of."""
    stages = read_stages(config)
    groups = config["norm_num_groups"] or 1
    by_stage = isinstance(config["attention_head_dim"], Sequence)
    found = []
    for stage in stages.down:
        last = stage.number == len(stages.down) - 1
        attention = stage.attention or stages.up[stages.mirror(stage.number)].attention or (last and stages.mid)
        unit = stage.channels // stage.heads if by_stage else stage.heads
        found.append(math.lcm(groups, unit) if attention else groups)
    return found


def scaled(config: Config, factor: float) -> list[int]:
    r"""The widths nearest to ``factor`` times the config's, a tie rounded up: :math:`m \lfloor f C / m + 1/2 \rfloor`.

    >>> scaled({"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2, "mid_block_type": None,
    ...         "layers_per_block": 2, "block_out_channels": [320, 640], "attention_head_dim": 8,
    ...         "cross_attention_dim": 8, "transformer_layers_per_block": 1, "norm_num_groups": 32}, 0.75)
    [256, 480]
    """
    checks.half_open_unit("width", factor)
    widths = config["block_out_channels"]
    return [max(1, math.floor(factor * width / step + 0.5)) * step for width, step in zip(widths, steps(config))]


def with_widths(config: Config, channels: Sequence[int]) -> dict[str, Any]:
    """``config`` with other ``block_out_channels``, and with heads that go with them."""
    old = config["block_out_channels"]
    if len(channels) != len(old):
        raise ValueError(f"block_out_channels {list(channels)}: one for each of the student's {len(old)} stages")
    for stage, (new, wide, step) in enumerate(zip(channels, old, steps(config))):
        checks.whole(f"block_out_channels[{stage}]", new, least=1)
        if new % step or new > wide:
            raise ValueError(f"block_out_channels[{stage}] must be a multiple of {step} up to {wide}, got {new}")
    heads = config["attention_head_dim"]
    if isinstance(heads, Sequence):
        heads = [max(1, count * new // wide) for count, new, wide in zip(heads, channels, old)]
    return {**config, "block_out_channels": list(channels), "attention_head_dim": heads}
