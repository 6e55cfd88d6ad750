r"""Guidance distillation: the student takes the guidance scale as an input and needs one pass for its teacher's two.

.. math:: \hat f(x_t, t, c, w) = f_T(x_t, t, \varnothing) + w\,\bigl(f_T(x_t, t, c) - f_T(x_t, t, \varnothing)\bigr)

with :math:`w` uniform in the run's range (C. Meng et al., "On distillation of guided diffusion models", CVPR 2023).
Guidance is affine, so it does not matter which kind of prediction is guided. Under the null condition the
output is the same for every :math:`w`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from aria.distill.models.denoisers import Ask, Condition
from aria.distill.models.denoisers.guidance import GUIDANCE, width_of
from aria.distill.teachers.teacher import Teacher


@dataclass(frozen=True, eq=False)
class Guided:
    """Calls a model without an input for the scale, with and without the condition in one batch, and guides."""

    ask: Ask
    null: Condition
    """(1, …) the null condition."""

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """(B, …) guided outputs, in float32 since guiding enlarges what rounding did."""
        both = {
            name: torch.cat([self.null[name].to(value).expand_as(value), value])
            for name, value in condition.items()
            if name != GUIDANCE
        }
        output = self.ask(model, torch.cat([noisy, noisy]), torch.cat([timestep, timestep]), both)
        without, under = output.float().chunk(2)
        scale = condition[GUIDANCE].float().view(-1, *(1,) * (noisy.ndim - 1))
        return without + scale * (under - without)


def guided(teacher: Teacher, null: Condition) -> Teacher:
    """The teacher under classifier-free guidance, with the scale in the condition; ``null`` is (1, …).

    One that takes the scale as an input is called as it is.
    """
    if width_of(teacher.model) is not None:
        return replace(teacher, plain=False)
    return replace(teacher, ask=Guided(teacher.ask or teacher.denoiser, null), plain=False)
