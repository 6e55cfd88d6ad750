"""Feature distillation: the outputs of the student's layers should match those of the teacher's."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from aria import checks
from aria.distill.objectives.base import Inputs, ModelOutput, Objective, Pairs, per_sample


@dataclass(frozen=True)
class Feature(Objective):
    r"""Feature distillation: :math:`\sum_l \|P_l h^S_l - h^T_l\|^2 / \|h^T_l\|^2` over pairs of layers ``l``.

    :math:`P_l` is a learned projection along the feature's own channel axis where the widths differ (a 1×1 convolution
    for (B, C, H, W) and (B, C, F, H, W), a linear layer for (B, N, C)). With ``normalise=False`` the mean square is
    taken as it is, as in BK-SDM (B.-K. Kim et al., ECCV 2024); deep layers, whose features are large, then outweigh all
    else.

    >>> Feature(layers=[("down_blocks.0", "down_blocks.0")]).pairs(())
    (('down_blocks.0', 'down_blocks.0'),)
    """

    one_pass = True

    layers: Pairs = field(default=())
    """(teacher's module, student's module) pairs; by default those the student's folder names."""
    normalise: bool = True
    """Divide by the mean square of the teacher's feature, sample by sample."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.flag("normalise", self.normalise)
        if not isinstance(self.layers, list | tuple) or not all(map(_is_pair, self.layers)):
            raise ValueError(f"layers must be pairs (teacher's module, student's module), got {self.layers!r}")
        object.__setattr__(self, "layers", tuple(tuple(pair) for pair in self.layers))

    def pairs(self, default: Pairs) -> Pairs:
        chosen = self.layers or tuple(default)
        if not chosen:
            raise ValueError(
                "feature distillation needs layers=[('teacher.module', 'student.module'), …]: the student names none; "
                "leave feature out of the objective to do without"
            )
        return chosen

    def __call__(self, inputs: Inputs, teacher: ModelOutput, student: ModelOutput) -> Tensor:
        terms = [
            per_sample(ours - theirs) / (per_sample(theirs).clamp(min=1e-12) if self.normalise else 1.0)
            for ours, theirs in zip(student.features, teacher.features, strict=True)
        ]
        return torch.stack(terms).sum(0)


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(name, str) for name in value)
