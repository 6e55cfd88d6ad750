r"""Which entries of a wide tensor become a narrow one.

An axis that shrinks from :math:`W` to :math:`N` entries is cut into :math:`\gcd(W, N)` equal parts, the finest that
both have, and every part keeps its leading entries. So the groups of GroupNorm, the heads of an attention, the values
and gates of a feed-forward layer, and the sines and cosines of the timestep, whose numbers divide both :math:`W` and
:math:`N`, each keep entries of their own; sinusoids keep their frequencies to within one step.

Two kinds of axes differ: the input of an up stage's resnet is two axes one after the other (what comes from below and
what comes over the skip connection), and where a narrower stage has fewer heads, the leading heads stay whole.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aria.distill.students.unet.stages import Config, Stages, read_stages

SLICEABLE = {"DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"}
PLAIN: dict[str, tuple[Any, ...]] = {
    "mid_block_type": ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None),
    "resnet_time_scale_shift": ("default",),
    "dual_cross_attention": (False,),
    "attention_type": ("default",),
    "time_embedding_type": ("positional",),
    "class_embeddings_concat": (False,),
}
"""The settings whose tensors this file knows how to cut."""

HEADS = re.compile(r"\.to_[qkv]\.(?:weight|bias)$")
UP_INPUT = re.compile(r"^up_blocks\.(\d+)\.resnets\.(\d+)\.(?:norm1|conv1|conv_shortcut)\.")


@dataclass(frozen=True)
class Run:
    """A stretch of an axis that shrinks from ``wide`` to ``narrow`` entries."""

    wide: int
    narrow: int
    whole: bool = False
    """Whether it is one part."""

    @property
    def parts(self) -> int:
        return 1 if self.whole else math.gcd(self.wide, self.narrow)

    def index(self) -> Tensor:
        """The entries that stay.

        >>> Run(8, 6).index().tolist(), Run(8, 6, whole=True).index().tolist()
        ([0, 1, 2, 4, 5, 6], [0, 1, 2, 3, 4, 5])
        """
        starts = torch.arange(self.parts)[:, None] * (self.wide // self.parts)
        return (starts + torch.arange(self.narrow // self.parts)).flatten()  # (narrow,)


@dataclass(frozen=True)
class Slicer:
    """Cuts the tensors of a UNet to those of a narrower one with the same blocks."""

    wide: Stages
    narrow: Stages
    fewer_heads: bool
    """Whether narrower stages have fewer heads, of the same width, rather than as many narrower ones."""

    @classmethod
    def between(cls, wide: Config, narrow: Config) -> Slicer:
        """For two configs that differ only in their widths."""
        advice = "use init='copy' or 'fresh'"
        for key, known in PLAIN.items():
            if wide[key] not in known:
                allowed = " or ".join(map(repr, known))
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
