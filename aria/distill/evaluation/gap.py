"""The generation gap: how far a student's images are from its teacher's, made from the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def generation_gap(teacher: Tensor, student: Tensor) -> Tensor:
    r"""(N,) float64 :math:`\frac1D\lVert x^T_i - x^S_i\rVert^2` over the D elements of each latent.

    >>> import torch
    >>> generation_gap(torch.zeros(2, 1, 1, 2), torch.tensor([[[[0.0, 2.0]]], [[[1.0, 1.0]]]])).tolist()
    [2.0, 1.0]
    """
    return (teacher.double() - student.double()).square().flatten(1).mean(1)


def gap_record(prompts: Sequence[str], teacher: Tensor, student: Tensor) -> dict[str, Any]:
    """The generation gap, overall and for each prompt."""
    gaps = generation_gap(teacher, student)
    rows = [{"prompt": prompt, "gap": gap} for prompt, gap in zip(prompts, gaps.tolist(), strict=True)]
    return {"gap": float(gaps.mean()), "prompts": rows}
