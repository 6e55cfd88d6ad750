"""Output distillation: the student's output should match the teacher's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from aria.distill.objectives.base import Answer, Objective, Shown, per_sample


@dataclass(frozen=True)
class Output(Objective):
    r"""Output distillation: :math:`\|f_S(x_t, t, c) - f_T(x_t, t, c)\|^2`, the mean over an output's elements.

    >>> Output().weight
    1.0
    """

    by_level = True
    answers_only = True

    def __call__(self, shown: Shown, teacher: Answer, student: Answer) -> Tensor:
        return per_sample(student.output - teacher.output)
