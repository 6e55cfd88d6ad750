"""Planning a UNet student: which blocks stay, then how wide they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers import UNet2DConditionModel

from aria.distill.students.config import Config
from aria.distill.students.plan import Plan
from aria.distill.students.presets import preset as preset_map
from aria.distill.students.unet.blocks import BlockMap, read_map
from aria.distill.students.unet.slices import UNetSlicer
from aria.distill.students.unet.width import scaled, with_widths


def plan_student(
    teacher: Config,
    *,
    preset: str | None = None,
    block_map: Mapping[str, Any] | None = None,
    width: float | None = None,
    block_out_channels: Sequence[int] | None = None,
) -> Plan[BlockMap]:
    """Plan the student of a teacher with the config ``teacher``: blocks first, then widths.

    Blocks stay by ``preset`` or by ``block_map`` (without either: all); the widths of the stages that stay are scaled
    by ``width`` or given as ``block_out_channels`` (without either: the teacher's).
    """
    if preset is not None and block_map is not None:
        raise ValueError("a preset is a block map: give preset or block_map, not both")
    if width is not None and block_out_channels is not None:
        raise ValueError("give width or block_out_channels, not both")
    if preset is not None:
        block_map = preset_map(preset, teacher)
    blocks = read_map({} if block_map is None else block_map, teacher)
    wide = blocks.config(teacher)
    config = wide
    if width is not None:
        config = with_widths(wide, scaled(wide, width))
    elif block_out_channels is not None:
        config = with_widths(wide, block_out_channels)
    return Plan(UNet2DConditionModel, config, wide, blocks, UNetSlicer.between)
