"""A student, first as a plan (a plain config and where its tensors come from), then as a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from aria import checks
from aria.distill.students.inherit import INITS, Inheritance, Init, inherit
from aria.distill.students.presets import preset as preset_map
from aria.distill.students.unet.block_map import BlockMap, public, read_map
from aria.distill.students.unet.slices import Slicer
from aria.distill.students.unet.stages import Config
from aria.distill.students.unet.width import scaled, with_widths


@dataclass(frozen=True)
class Plan:
    """A student of a teacher: the config that diffusers builds, and the blocks of the teacher that it keeps."""

    config: dict[str, Any]
    wide: dict[str, Any]
    """The same blocks at the teacher's widths."""
    blocks: BlockMap

    @property
    def feature_pairs(self) -> list[tuple[str, str]]:
        """(teacher's module, student's module) for feature distillation."""
        return self.blocks.feature_pairs()


def plan_student(
    teacher: Config,
    *,
    preset: str | None = None,
    block_map: Mapping[str, Any] | None = None,
    width: float | None = None,
    block_out_channels: Sequence[int] | None = None,
) -> Plan:
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
    return Plan(config, wide, blocks)


def build_student(
    plan: Plan, teacher: UNet2DConditionModel, *, init: Init = "slice", seed: int = 0
) -> tuple[UNet2DConditionModel, Inheritance]:
    """The planned student with the weights that ``init`` lets it inherit; the rest is drawn with ``seed``."""
    checks.one_of("init", init, INITS)
    checks.whole("seed", seed)
    narrower = plan.config["block_out_channels"] != plan.wide["block_out_channels"]
    slicer = Slicer.between(plan.wide, plan.config) if init == "slice" and narrower else None
    student: UNet2DConditionModel = fresh(UNet2DConditionModel, plan.config, teacher.dtype, seed)
    return student, inherit(student, teacher.state_dict(), plan.blocks, slicer, init)


def fresh(model: type[Any], config: Config, dtype: torch.dtype, seed: int) -> Any:
    """A model of ``config`` with weights drawn with ``seed``, whatever else draws numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the other devices draw nothing here
        made = model.from_config(dict(config))
    return made if made.dtype == dtype else made.to(dtype)


def public_config(model: UNet2DConditionModel) -> dict[str, Any]:
    """A model's config without what diffusers keeps for itself."""
    return public(model.config)
