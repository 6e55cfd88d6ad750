r"""Guidance distillation: the student takes the guidance scale as an input and needs one pass instead of two.

.. math:: \hat f(x_t, t, c, w) = f_T(x_t, t, \varnothing) + w\,\bigl(f_T(x_t, t, c) - f_T(x_t, t, \varnothing)\bigr)

with :math:`w` uniform in the run's range (C. Meng et al., "On distillation of guided diffusion models", CVPR 2023).
This is affine in the outputs, so it does not matter which prediction type is guided; a family whose pipelines combine
the two outputs otherwise does so here as well. Under the null condition the output does not depend on :math:`w`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from aria.distill.models.denoisers import Condition, Evaluate
from aria.distill.models.denoisers.guidance import GUIDANCE, Guide, classifier_free, is_open
from aria.distill.teachers.teacher import Teacher


@dataclass(frozen=True, eq=False)
class Guided:
    """Guided outputs of a model that has no input for the scale, with and without the condition in one batch."""

    evaluate: Evaluate
    null: Condition
    """(1, …) the null condition."""
    guide: Guide = classifier_free
    """How the two outputs are combined."""

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """(B, …) guided outputs, in float32 because guidance amplifies rounding errors."""
        both = {
            name: torch.cat([self.null[name].to(value).expand_as(value), value])
            for name, value in condition.items()
            if name != GUIDANCE
        }
        output = self.evaluate(model, torch.cat([noisy, noisy]), torch.cat([timestep, timestep]), both)
        without, conditioned = output.float().chunk(2)
        return self.guide(without, conditioned, condition[GUIDANCE].float())


def guided(teacher: Teacher, null: Condition) -> Teacher:
    """The teacher with classifier-free guidance; conditions contain the scale, and ``null`` is (1, …).

    A teacher that takes the scale as an input needs no second pass.
    """
    if is_open(teacher.model):
        return replace(teacher, plain=False)
    return replace(teacher, evaluate=Guided(teacher.evaluate or teacher.denoiser, null, teacher.guide), plain=False)
