r"""Which entries of a wide tensor become a narrow one.

Every axis is cut as in :mod:`aria.distill.students.axis`. Two kinds of axes differ: the input of an up stage's resnet
is two axes one after the other (what comes from below and what comes over the skip connection), and where a narrower
stage has fewer heads, the leading heads stay whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aria.distill.students.axis import Run
from aria.distill.students.config import Config
from aria.distill.students.unet.stages import Stages, read_stages

SLICEABLE = {"DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"}
PLAIN: dict[str, tuple[Any, ...]] = {
    "mid_block_type": ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None),
    "resnet_time_scale_shift": ("default",),
    "dual_cross_attention": (False,),
    "attention_type": ("default",),
    "time_embedding_type": ("positional",),
    "class_embeddings_concat": (False,),
}
"""The settings whose tensors this file can cut."""

HEADS = re.compile(r"\.to_[qkv]\.(?:weight|bias)$")
UP_INPUT = re.compile(r"^up_blocks\.(\d+)\.resnets\.(\d+)\.(?:norm1|conv1|conv_shortcut)\.")


@dataclass(frozen=True)
class UNetSlicer:
    """Cuts the tensors of a UNet to those of a narrower one with the same blocks."""

    wide: Stages
    narrow: Stages
    fewer_heads: bool
    """Whether narrower stages have fewer heads, of the same width, rather than as many narrower ones."""

    @classmethod
    def between(cls, wide: Config, narrow: Config) -> UNetSlicer:
        """For two configs that differ only in their widths."""
        advice = "use init='copy' or 'fresh'"
        for key, values in PLAIN.items():
            if wide[key] not in values:
                allowed = " or ".join(map(repr, values))
                raise ValueError(f"weights cannot be sliced where {key} is {wide[key]!r}, not {allowed}; {advice}")
        stages = read_stages(wide)
        for stage in (*stages.down, *stages.up):
            if stage.type not in SLICEABLE:
                raise ValueError(f"the weights of {stage.name}, a {stage.type}, cannot be sliced; {advice}")
        return cls(stages, read_stages(narrow), isinstance(wide["attention_head_dim"], Sequence))

    def __call__(self, name: str, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """The part of ``tensor`` that becomes the student's tensor ``name`` of ``shape``."""
        for axis, narrow in enumerate(shape):
            runs = self.runs(name, axis, tensor.shape[axis], narrow)
            starts = [sum(run.wide for run in runs[:k]) for k in range(len(runs))]
            index = torch.cat([start + run.index() for start, run in zip(starts, runs)])
            tensor = tensor.index_select(axis, index.to(tensor.device))
        return tensor

    def runs(self, name: str, axis: int, wide: int, narrow: int) -> list[Run]:
        """What one axis of the student's tensor ``name`` consists of."""
        heads = (HEADS.search(name) and axis == 0) or (name.endswith(".to_out.0.weight") and axis == 1)
        match = UP_INPUT.match(name)
        if wide != narrow and match and (axis == 1 or ".norm1." in name):
            stage, resnet = int(match[1]), int(match[2])
            reads = zip(self.wide.up[stage].reads[resnet], self.narrow.up[stage].reads[resnet])
            return [Run(old, new) for old, new in reads]
        return [Run(wide, narrow, whole=bool(heads and self.fewer_heads))]
